"""Tool specifications as TypeScript declarations, which Harmony shows to the model.

The spacing inside of objects and alternatives is an accident of gpt-oss's template, and what the model is served with.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hone.algorithms.messages import ToolSpec

LONGEST_ELEMENT = 50
"""An array of what is longer to write than this is any[]."""


def namespace(name: str, tools: Sequence[ToolSpec]) -> str:
    types = "".join(_declaration(tool["function"]) for tool in tools)
    return f"## {name}\n\nnamespace {name} {{\n\n{types}}} // namespace {name}"


def _declaration(function: Mapping[str, Any]) -> str:
    head = f"// {function.get('description', '')}\ntype {function['name']} = "
    parameters = function.get("parameters") or {}
    properties = parameters.get("properties")
    if not properties:
        return f"{head}() => any;\n\n"
    required = parameters.get("required") or ()
    lines = "".join(_parameter(key, schema, key in required) for key, schema in properties.items())
    return f"{head}(_: {{\n{lines}}}) => any;\n\n"


def _parameter(name: str, schema: Mapping[str, Any], required: bool) -> str:
    described = f"// {schema['description']}\n" if schema.get("description") else ""
    default = ""
    if "default" in schema:
        # The template's own inconsistency: alternatives have no comma before their default.
        plain = schema.get("enum") or schema.get("oneOf")
        value = schema["default"] if plain else _json(schema["default"])
        default = f"{'// ' if not schema.get('enum') and schema.get('oneOf') else ', // '}default: {value}"
    return f"{described}{name}{'' if required else '?'}: {_type(schema)}{default},\n"


def _type(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    null = " | null" if schema.get("nullable") else ""
    if kind == "array":
        return _array(schema.get("items")) + null
    if isinstance(kind, list) and kind:
        return " | ".join(kind)
    if schema.get("oneOf"):
        return _alternatives(schema["oneOf"])
    if kind == "string":
        if schema.get("enum"):
            return " | ".join(f'"{value}"' for value in schema["enum"])
        return f"string{null}"
    if kind in ("number", "integer"):
        return "number"
    if kind == "object":
        return _object(schema)
    return "boolean" if kind == "boolean" else "any"


def _array(items: Mapping[str, Any] | None) -> str:
    if not items:
        return "any[]"
    simple = {"string": "string[]", "number": "number[]", "integer": "number[]", "boolean": "boolean[]"}
    if isinstance(items.get("type"), str) and items["type"] in simple:
        return simple[items["type"]]
    element = _type(items)
    return "any[]" if element == "object | object" or len(element) > LONGEST_ELEMENT else f"{element}[]"


def _alternatives(variants: Sequence[Mapping[str, Any]]) -> str:
    written = []
    for variant in variants:
        described = f"// {variant['description']}" if variant.get("description") else ""
        default = f"{20 * ' '}// default: {_json(variant['default'])}" if "default" in variant else ""
        written.append(_type(variant) + described + default)
    return " | \n".join(written)


def _object(schema: Mapping[str, Any]) -> str:
    properties = schema.get("properties")
    if not properties:
        return "object"
    required = schema.get("required") or ()
    indent = 16 * " "
    lines = [f"{key}{'' if key in required else '?'}: \n{indent}{_type(one)}" for key, one in properties.items()]
    return "{\n" + ", ".join(lines) + "}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
