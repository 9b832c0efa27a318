"""What commands print with `--json`, field by field, from the models that they print."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import models_json_schema

from docs.generate.markdown import links, table
from hone.algorithms.config import Config
from hone.cli.shapes import Concluded, Plan
from hone.experiments.check import CheckReport
from hone.experiments.compare import Difference
from hone.experiments.explain import Explanation, Sections, type_text
from hone.experiments.records import ExperimentRecord
from hone.experiments.summary import History, Listing, Summary

HEAD = """# What `--json` prints

One object on standard output; what is said to people goes to standard error. Fields may be added to these, but none
is removed or changes its meaning. [Exit codes](exit-codes.md) say how it went."""

SHAPES: dict[str, type[Config]] = {
    "hone check": CheckReport,
    "hone run --dry-run": Plan,
    "hone run": Summary,
    "hone experiments list": Listing,
    "hone experiments show": Summary,
    "hone experiments compare": Difference,
    "hone experiments conclude": Concluded,
    "hone diff": Difference,
    "hone history": History,
    "hone explain REGISTRY KIND": Explanation,
    "hone explain config": Sections,
}


def page() -> str:
    models: list[type[Config]] = list(dict.fromkeys([*SHAPES.values(), ExperimentRecord]))
    tops, whole = models_json_schema([(model, "serialization") for model in models], ref_template="{model}")
    objects = whole["$defs"]
    itself = {name: name for name in objects}
    rows = (
        (f"`{command} --json`", links(f"<{tops[shape, 'serialization']['$ref']}>")) for command, shape in SHAPES.items()
    )
    parts = [HEAD, table(("command", "object"), rows), "`record.json` is an [ExperimentRecord](#experimentrecord)."]
    parts += [_object(name, one, itself) for name, one in sorted(objects.items())]
    return "\n\n".join(parts)


def _object(name: str, schema: dict[str, Any], names: Mapping[str, str]) -> str:
    rows = (
        (f"`{key}`", links(_type(value, names)), " ".join(value.get("description", "").split()))
        for key, value in schema["properties"].items()
    )
    about = inspect.cleandoc(schema.get("description", ""))
    return "\n\n".join(filter(None, (f"## {name}", about, table(("field", "type", "meaning"), rows))))


def _type(value: dict[str, Any], names: Mapping[str, str]) -> str:
    nullable = any(option.get("type") == "null" for option in value.get("anyOf", ()))
    return f"{type_text(value, names)}{' or null' if nullable else ''}"
