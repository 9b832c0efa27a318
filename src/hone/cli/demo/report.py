"""The demo's report: one HTML file with everything in it, no scripts, no network. The page itself is `report.html`."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from hone.cli.demo.curves import Series, chart, smooth
from hone.cli.demo.results import AdapterResult, DemoResult, StageResult

SMOOTHING = 5
"""Steps per point of the drawn curves; the JSON file has every step."""


def write(result: DemoResult, path: Path) -> None:
    environment = Environment(loader=PackageLoader("hone.cli.demo", "."), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("report.html")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page.render(result=result, charts=[_chart(stage) for stage in result.stages]), encoding="utf-8")


def _chart(stage: StageResult) -> str:
    measured = stage.adapters[0].measures
    label = {"loss": "loss per answer token (nats)", "reward": "mean reward"}[measured]
    return chart([_series(adapter) for adapter in stage.adapters], x_label="seconds of training", y_label=label)


def _series(adapter: AdapterResult) -> Series:
    values = smooth([measure.value for measure in adapter.curve], SMOOTHING)
    return Series(adapter.task, tuple(zip((measure.seconds for measure in adapter.curve), values, strict=True)))
