"""The page: `page.html` filled in. Everything is escaped but the charts, which escape for themselves."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from hone.experiments import wording
from hone.experiments.conclusion import recorded
from hone.experiments.records import ExperimentRecord
from hone.experiments.report import tables
from hone.experiments.report.charts import charts
from hone.experiments.statistics import direction


def write_report(record: ExperimentRecord, path: Path) -> None:
    """One file that needs nothing else: no network, no other files. The same record gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(record), encoding="utf-8")


def render(record: ExperimentRecord) -> str:
    """The page as text."""
    conclusion = recorded(record)
    environment = Environment(
        loader=PackageLoader("hone.experiments.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": wording.number,
        "seconds": wording.seconds,
        "p_value": wording.p_value,
        "count": wording.count,
        "listed": wording.listed,
        "as_json": tables.as_json,
        "ticked": _ticked,
    }
    paths, differences = tables.differing(record)
    script = (Path(__file__).parent / "sort.js").read_text(encoding="utf-8")
    return environment.get_template("page.html").render(
        record=record,
        conclusion=conclusion,
        sign=direction(record.goal),
        rows=tables.arm_rows(record, conclusion),
        charts=[(chart, Markup(chart.svg)) for chart in charts(record, conclusion)],
        forgetting=tables.forgetting(record),
        paths=paths,
        differences=differences,
        priced=conclusion.usage.cost > 0,
        tokens=tables.tokens,
        interval=wording.interval,
        script=Markup(script),
        # By its hash, this one script may run, and no other: not even one that came through the escaping.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _ticked(text: str) -> Markup:
    """Escaped, with what stands between backticks as code."""
    plain, *pairs = text.split("`")
    parts = [escape(plain)]
    parts += [
        Markup("<code>{}</code>").format(part) if number % 2 == 0 else escape(part) for number, part in enumerate(pairs)
    ]
    return Markup("").join(parts)
