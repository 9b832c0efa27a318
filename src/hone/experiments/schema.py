"""The JSON Schema of an experiment file, for editors: with every plugin's parameters, those of installed packages too.

It says less than `hone check` does: parameters may be left out that have to be given somewhere, since axes, defaults
and files that are extended may give them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic.json_schema import models_json_schema

from hone.algorithms.config import Config
from hone.experiments.config import ExperimentConfig, RunConfig, Spec
from hone.experiments.fields import FREE, models_in, registry_of
from hone.experiments.kinds.plugins import REGISTRIES
from hone.experiments.layers import EXTENDS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_INTERPOLATED = {"type": "string", "pattern": r"\$\{[A-Za-z_]"}
"""A value that the environment gives may stand in place of a number, or of true and false."""


def experiment_schema() -> dict[str, Any]:
    """Of the whole file."""
    params = {(registry.kind, name): plugin.Params for registry in REGISTRIES.values() for name, plugin in registry}
    models = list(_models([ExperimentConfig, *params.values()]))
    names, generated = models_json_schema([(model, "validation") for model in models], ref_template="#/$defs/{model}")
    of_model = {model: names[model, "validation"]["$ref"].rpartition("/")[2] for model in models}
    definitions: dict[str, Any] = generated["$defs"]
    for model, name in of_model.items():
        if "properties" in definitions[name]:
            _name_plugins(model, definitions[name]["properties"])
    for kind, registry in REGISTRIES.items():
        kinds = {name: f"#/$defs/{of_model[params[kind, name]]}" for name in registry.names()}
        definitions[_place(kind)] = _plugin_of(kind, kinds)
    for model in {of_model[model] for model in params.values()}:
        definitions[model].pop("required", None)
    top = definitions.pop(of_model[ExperimentConfig])
    top["properties"]["defaults"] = {"$ref": f"#/$defs/{of_model[RunConfig]}", "description": "Values of every run."}
    top["properties"][EXTENDS] = {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        "description": "Files below this one, relative to it; what is said here wins, and of several files the last.",
    }
    top.pop("required", None)  # a file that it extends may have them
    schema = {"$schema": DIALECT, "title": "Hone experiment", **top, "$defs": definitions}
    interpolated: dict[str, Any] = _interpolated(schema)
    return interpolated


def _models(models: Iterable[type[Config]]) -> Iterator[type[Config]]:
    """Models, and all that stand in their fields."""
    seen: set[type[Config]] = set()
    waiting = list(models)
    while waiting:
        model = waiting.pop()
        if model not in seen:
            seen.add(model)
            yield model
            waiting += [inner for field in model.model_fields.values() for inner in models_in(field.annotation)]


def _place(registry: str) -> str:
    return f"a_{registry}"


def _plugin_of(registry: str, kinds: dict[str, str]) -> dict[str, Any]:
    """`{kind, params}`: for each kind its own parameters; without a kind, which another layer may name, any."""
    branches: list[dict[str, Any]] = [
        {
            "properties": {"kind": {"const": name}, FREE: {"$ref": reference}},
            "required": ["kind"],
            "additionalProperties": False,
        }
        for name, reference in kinds.items()
    ]
    branches.append({"properties": {FREE: {"type": "object"}}, "additionalProperties": False})
    return {"description": f"A {registry}: `hone explain {registry}`.", "type": "object", "oneOf": branches}


def _name_plugins(model: type[Config], properties: dict[str, Any]) -> None:
    """Put the registry's plugins where a field takes any."""
    for name, field in model.model_fields.items():
        specs = [one for one in models_in(field.annotation) if issubclass(one, Spec)]
        registry = registry_of(name, specs[0]) if specs else None
        if registry is not None:
            properties[name] = _replaced(properties[name], {one.__name__ for one in specs}, registry)


def _replaced(schema: Any, specs: set[str], registry: str) -> Any:
    if isinstance(schema, list):
        return [_replaced(one, specs, registry) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("$ref", "").rpartition("/")[2] in specs:
        return {**schema, "$ref": f"#/$defs/{_place(registry)}"}
    changed = {key: _replaced(value, specs, registry) for key, value in schema.items() if key != "default"}
    return changed | ({"default": schema["default"]} if "default" in schema else {})


def _interpolated(schema: Any) -> Any:
    """With `${NAME}` allowed where a number, or true or false, is wanted."""
    if isinstance(schema, list):
        return [_interpolated(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {
        key: value if key in ("default", "const", "enum", "examples") else _interpolated(value)
        for key, value in schema.items()
    }
    if changed.get("type") in ("integer", "number", "boolean"):
        about = {key: changed.pop(key) for key in ("title", "description", "default") if key in changed}
        return {**about, "anyOf": [changed, _INTERPOLATED]}
    return changed
