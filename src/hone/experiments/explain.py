"""What can be written in an experiment file, for people and programs: parameters with types, defaults and meaning.

Everything comes from the code: docstrings, typed fields, the docstrings under them. `hone explain` prints it and the
reference pages are made of it.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from hone.algorithms.config import Config
from hone.errors import UserError
from hone.experiments.config import ExperimentConfig, Spec
from hone.experiments.kinds.contract import Plugin
from hone.experiments.kinds.plugins import REGISTRIES
from hone.experiments.registry import Registry

JsonSchema = Mapping[str, Any]


class Parameter(Config):
    """One thing that can be told."""

    name: str
    """Dotted where it stands in an object, `[]` where it stands in a list."""
    type: str
    """In words; `<run.data>` is the part of the file that stands at this path."""
    required: bool
    """Whether it has to be given."""
    default: Any
    """Null where there is none."""
    description: str
    """What it means."""


class Explanation(Config):
    """One plugin."""

    registry: str
    """One of the eight."""
    kind: str
    """Its name there."""
    built_in: bool
    """Otherwise it is a plugin."""
    about: str
    """What it is, from its docstring."""
    facts: dict[str, str]
    """What else its class says, such as the rows that an algorithm learns from."""
    params: list[Parameter]
    """What it can be told."""
    example: str
    """YAML, as it may stand in an experiment file."""
    json_schema: dict[str, Any]
    """Of `params`."""


class Section(Config):
    """One part of the experiment file."""

    path: str
    """Where it stands, such as `run.data.split`; empty for the file itself."""
    about: str
    """What it is for."""
    keys: list[Parameter]
    """What may stand in it."""


class Sections(Config):
    """Parts of the experiment file."""

    sections: list[Section]
    """In the order of the file."""


# Where a plugin of each kind stands. `SPEC` becomes `{kind, params}`.
SPEC = object()
PLACES: dict[str, Any] = {
    "source": {"data": {"source": SPEC}},
    "transform": {
        "data": {"source": {"kind": "jsonl", "params": {"path": "data/train.jsonl"}}, "transforms": [SPEC]},
    },
    "algorithm": {"algorithm": SPEC},
    "backend": {"backend": SPEC},
    "verifier": {
        "data": {"source": {"kind": "jsonl", "params": {"path": "data/train.jsonl"}}, "verifier": SPEC},
    },
    "metric": {"validation": {"metrics": [SPEC]}},
    "store": {"stores": [SPEC]},
    "inference": {"benchmarks": [{"name": "exam", "path": "data/exam.jsonl", "inference": [SPEC]}]},
}
SPECS = {Spec.__name__, *(one.__name__ for one in Spec.__subclasses__())}
"""Objects of `kind` and `params`, which the registries explain."""
SHOWN_DEFAULTS = 3
"""Parameters with defaults that an example shows, beside those that have to be given."""


def first_sentence(text: str) -> str:
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<!\bet al)\. ", paragraph)[0].removesuffix(".")


def explain_plugin(registry: str, kind: str) -> Explanation:
    """Everything about one plugin.

    Raises:
        UserError: there is no such registry or kind; it lists those that there are.
    """
    plugins = _registry(registry)
    plugin = plugins.get(kind)
    schema = plugin.Params.model_json_schema()
    params = list(_parameters(schema, schema.get("$defs", {})))
    spec: dict[str, Any] = {"kind": kind}
    if values := _example_values(schema, list(vars(plugin.Params).get("__annotations__", ()))):
        spec["params"] = values
    return Explanation(
        registry=registry,
        kind=kind,
        built_in=plugins.is_built_in(kind),
        about=_about(plugin, plugins),
        facts={
            name.replace("_", " "): str(getattr(plugin, name))
            for name in ("learns_from", "goal", "measures")
            if hasattr(plugin, name)
        },
        params=params,
        example=_yaml(_filled(PLACES[registry], spec)),
        json_schema=schema,
    )


def kinds_of(registry: str) -> dict[str, str]:
    """The kinds of one registry, each in a sentence."""
    plugins = _registry(registry)
    return {name: first_sentence(_about(plugin, plugins)) for name, plugin in plugins}


def built_in_kinds(registry: str) -> list[str]:
    """Those that come with Hone."""
    plugins = _registry(registry)
    return [name for name in plugins.names() if plugins.is_built_in(name)]


def explain_config() -> list[Section]:
    """The parts of the experiment file, each after the part it stands in. What may stand in several places comes once,
    under the first of them."""
    schema = ExperimentConfig.model_json_schema()
    names: dict[str, str] = {}
    places: list[tuple[str, JsonSchema]] = []

    def visit(path: str, place: JsonSchema) -> None:
        places.append((path, place))
        for key, value in place["properties"].items():
            for name, suffix in _references(value):
                if name not in names and name not in SPECS:
                    names[name] = f"{path}.{key}{suffix}".removeprefix(".")
                    visit(names[name], schema["$defs"][name])

    visit("", schema)
    return [
        Section(
            path=path,
            about=inspect.cleandoc(place.get("description", "")),
            keys=[_parameter(key, value, place, names) for key, value in place["properties"].items()],
        )
        for path, place in places
    ]


def config_section(path: str) -> Section:
    """The part at a path, such as `matrix` or `run.data`.

    Raises:
        UserError: nothing stands there; it lists the parts.
    """
    sections = {section.path: section for section in explain_config()}
    if path not in sections:
        raise UserError(f"the experiment file has no part {path!r}; it has {', '.join(filter(None, sections))}")
    return sections[path]


def _about(plugin: type[Plugin[Any]], plugins: Registry[Any]) -> str:
    """What it is, in its own words: its docstring, after that of its file where that is about this plugin alone."""
    texts = [plugin.__doc__]
    beside = [one for name, one in plugins if one.__module__ == plugin.__module__ and plugins.is_built_in(name)]
    if beside == [plugin] or not plugin.__doc__:
        texts.insert(0, sys.modules[plugin.__module__].__doc__)
    return "\n\n".join(inspect.cleandoc(text) for text in texts if text)


def _registry(name: str) -> Registry[Any]:
    if name not in REGISTRIES:
        raise UserError(f"there is no registry {name!r}; there are {', '.join(REGISTRIES)}, and `config` for the file")
    return REGISTRIES[name]


def _parameters(schema: JsonSchema, definitions: JsonSchema, prefix: str = "") -> Iterator[Parameter]:
    """Each on a line of its own; what stands in an object follows it."""
    for key, value in schema.get("properties", {}).items():
        inner = list(_references(value))
        yield _parameter(f"{prefix}{key}", value, schema, {name: "" for name, _ in inner})
        for name, suffix in inner:
            yield from _parameters(definitions[name], definitions, f"{prefix}{key}{suffix}.")


def _parameter(name: str, value: JsonSchema, parent: JsonSchema, names: Mapping[str, str]) -> Parameter:
    key = name.rpartition(".")[2]
    default = value.get("default")
    if isinstance(default, dict):
        default = default.get("kind")  # the defaults of other objects are those of what stands in them
    return Parameter(
        name=name,
        type=type_text(value, names),
        required=key in parent.get("required", ()),
        default=None if default in ([], "") else default,
        description=" ".join(value.get("description", "").split()),
    )


def _references(schema: JsonSchema) -> Iterator[tuple[str, str]]:
    """Objects that may stand here, by name, with `[]` for a place in a list."""
    if "$ref" in schema:
        yield schema["$ref"].rpartition("/")[2], ""
    for option in schema.get("anyOf", ()):
        yield from _references(option)
    if isinstance(items := schema.get("items"), dict):
        for name, suffix in _references(items):
            yield name, f"[]{suffix}"
    if isinstance(values := schema.get("additionalProperties"), dict):
        for name, suffix in _references(values):
            yield name, f".NAME{suffix}"


def type_text(schema: JsonSchema, names: Mapping[str, str]) -> str:
    """A type in words. Objects that `names` knows are called by their place in the file: `<run.data>`."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        place = names.get(name)
        return "{kind, params}" if name in SPECS else f"<{place}>" if place else "object"
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        options = [type_text(option, names) for option in schema["anyOf"] if option.get("type") != "null"]
        return " or ".join(dict.fromkeys(options))
    match schema.get("type"):
        case "array":
            return f"list of {type_text(schema.get('items', {}), names)}"
        case "object":
            inner = schema.get("additionalProperties")
            return f"mapping of names to {type_text(inner, names)}" if isinstance(inner, dict) else "mapping"
        case None:
            return "anything"
        case kind:
            return ", ".join(filter(None, (_WORDS.get(kind, kind), _limits(schema))))


_WORDS = {"string": "text", "boolean": "true | false", "integer": "whole number"}


def _limits(schema: JsonSchema) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return ", ".join(f"{sign} {schema[name]:g}" for name, sign in signs.items() if name in schema)


def _example_values(schema: JsonSchema, own: Sequence[str]) -> dict[str, Any]:
    """What has to be given, and a few things that may be: before others those that no other plugin has."""
    required = set(schema.get("required", ()))
    values: dict[str, Any] = {}
    shown = 0
    properties = schema.get("properties", {})
    for key in sorted(properties, key=lambda key: (key not in required, key not in own)):
        value = properties[key]
        if "examples" in value:
            values[key] = value["examples"][0]
        elif key in required:
            values[key] = _placeholder(key, value)
        elif isinstance(value.get("default"), (int, float, str)) and shown < SHOWN_DEFAULTS:
            values[key] = value["default"]
            shown += 1
    return values


def _placeholder(key: str, schema: JsonSchema) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return _placeholder(key, schema["anyOf"][0])
    match schema.get("type"):
        case "integer" | "number":
            return schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
        case "boolean":
            return True
        case "array":
            return [_placeholder(key, schema.get("items", {}))]
        case "object":
            return {}
    return key


def _filled(place: Any, spec: Mapping[str, Any]) -> Any:
    if place is SPEC:
        return spec
    if isinstance(place, dict):
        return {key: _filled(value, spec) for key, value in place.items()}
    if isinstance(place, list):
        return [_filled(value, spec) for value in place]
    return place


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)
