"""YAML as values that know where they were written.

Scalars are read as YAML 1.2 does: `1e-5` is a number, `no` and `off` are words (which a field that wants true or false
understands), `010` is ten, `12:30` and `2026-01-01` are text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from hone.experiments.problems import Problem, shown

try:
    from yaml import CBaseLoader as _BaseLoader
except ImportError:  # PyYAML without libyaml: the same, slower
    from yaml import BaseLoader as _BaseLoader  # type: ignore[assignment]

KeyPath = tuple[str | int, ...]
"""Keys and indices from the top."""

_PLAIN = "plain"
_TAG = "tag:yaml.org,2002:"
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_VARIABLE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_SECRET = re.compile(r"(?i)(api_?key|access_key|secret_key|secret|password|passwd|(api|auth|access|bearer|hf)_token)$")
"""Names of variables whose values must not be written down."""
_MERGE = "<<"


@dataclass(frozen=True)
class Place:
    file: str | None
    """None: a program made the value."""
    line: int | None
    path: KeyPath
    """Within that file."""


@dataclass(frozen=True)
class Node:
    value: bool | int | float | str | dict[str, Node] | list[Node] | None
    place: Place
    """In a mapping the line of its key."""

    def plain(self) -> Any:
        """The value alone."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def at(self, path: KeyPath) -> tuple[Node, KeyPath]:
        """The node at a path, or the nearest one above it, and what of the path lies beyond."""
        if not path:
            return self, ()
        first, rest = path[0], path[1:]
        if isinstance(self.value, dict) and first in self.value:
            return self.value[str(first)].at(rest)
        if isinstance(self.value, list) and isinstance(first, int) and first < len(self.value):
            return self.value[first].at(rest)
        return self, path


def key_text(path: KeyPath) -> str:
    """`runs[0].model.name`"""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def from_values(values: Any, path: KeyPath = ()) -> Node:
    """What a program made, as nodes without places."""
    place = Place(None, None, path)
    if isinstance(values, Mapping):
        return Node({str(key): from_values(value, (*path, str(key))) for key, value in values.items()}, place)
    if isinstance(values, Sequence) and not isinstance(values, str | bytes):
        return Node([from_values(value, (*path, index)) for index, value in enumerate(values)], place)
    return Node(values, place)


def read_yaml(text: str, file: str, environ: Mapping[str, str]) -> tuple[Node, list[Problem]]:
    """One document. `${NAME}` and `${NAME:-default}` in its values become what the environment says; `$${` is `${`."""
    reader = _Reader(file, environ)
    top = Node({}, Place(file, 1, ()))
    try:
        documents = list(yaml.compose_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        return top, [_syntax_problem(error, text, file)]
    except ValueError as error:  # characters that no YAML holds
        return top, [Problem(file=file, message=f"is not YAML: {error}")]
    if len(documents) > 1:
        line = documents[1].start_mark.line + 1
        reader.problems.append(Problem(file=file, line=line, message="a second document begins; keep one in a file"))
    if documents:
        top = reader.node(documents[0], (), documents[0].start_mark.line + 1)
    return top, reader.problems


def read_value(text: str, label: str, path: KeyPath, environ: Mapping[str, str]) -> tuple[Node, list[Problem]]:
    """A value given elsewhere than in a file, as YAML; `label` says where."""
    node, problems = read_yaml(text, label, environ)
    if not text.strip():
        node = Node(None, node.place)
    return _moved(node, label, path), [one.model_copy(update={"line": None, "key": key_text(path)}) for one in problems]


def _moved(node: Node, label: str, path: KeyPath) -> Node:
    """The same, with all of it at one place."""
    place = Place(label, None, path)
    if isinstance(node.value, dict):
        return Node({key: _moved(value, label, (*path, key)) for key, value in node.value.items()}, place)
    if isinstance(node.value, list):
        return Node([_moved(value, label, (*path, index)) for index, value in enumerate(node.value)], place)
    return replace(node, place=place)


class _Loader(_BaseLoader):
    """Leaves untagged plain scalars to `_scalar`."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode:
            return _PLAIN if implicit[0] else f"{_TAG}str"
        return f"{_TAG}map" if kind is yaml.MappingNode else f"{_TAG}seq"


class _Reader:
    def __init__(self, file: str, environ: Mapping[str, str]) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._environ = environ
        self._open: list[yaml.Node] = []

    def node(self, found: yaml.Node, path: KeyPath, line: int) -> Node:
        place = Place(self._file, line, path)
        if any(found is one for one in self._open):
            self._problem(
                place, f"the anchor of this alias (line {found.start_mark.line + 1}) contains the alias itself"
            )
            return Node(None, place)
        self._open.append(found)
        try:
            if isinstance(found, yaml.MappingNode):
                self._known_tag(found, "map", place)
                return Node(dict(self._items(found, path)), place)
            if isinstance(found, yaml.SequenceNode):
                self._known_tag(found, "seq", place)
                return Node([self.node(one, (*path, i), _line(one)) for i, one in enumerate(found.value)], place)
            assert isinstance(found, yaml.ScalarNode)
            return Node(self._scalar(found, place), place)
        finally:
            self._open.pop()

    def _items(self, mapping: yaml.MappingNode, path: KeyPath) -> Iterator[tuple[str, Node]]:
        lines: dict[str, int] = {}
        merged: dict[str, Node] = {}
        own: dict[str, Node] = {}
        for key_node, value_node in mapping.value:
            line = _line(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem(Place(self._file, line, path), "a key is a list or a mapping; it must be text")
                continue
            key = str(key_node.value)
            if key == _MERGE and key_node.tag == _PLAIN:
                for node in self._bases(value_node, path, line):
                    merged = {**node, **merged}
                continue
            if key in lines:
                place = Place(self._file, line, (*path, key))
                self._problem(place, f"the key stands here twice, first in line {lines[key]}", hint="keep one of them")
                continue
            lines[key] = line
            own[key] = self.node(value_node, (*path, key), line)
        yield from {**merged, **own}.items()

    def _bases(self, node: yaml.Node, path: KeyPath, line: int) -> Iterator[dict[str, Node]]:
        """The mappings behind `<<:`, earlier ones first."""
        for one in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            read = self.node(one, path, line)
            if isinstance(read.value, dict):
                yield read.value
            else:
                self._problem(read.place, "`<<` takes a mapping, or a list of them", found=read.plain())

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> bool | int | float | str | None:
        text = self._interpolated(node.value, place)
        if node.tag == _PLAIN:
            if _NOT_FINITE.fullmatch(text):
                self._problem(place, "is not a finite number", found=text)
                return None
            return scalar(text)
        kind = node.tag.removeprefix(_TAG)
        if kind not in ("str", "int", "float", "bool", "null"):
            self._problem(place, f"the tag {node.tag} is not known here; leave it out")
        return text if kind == "str" else scalar(text)

    def _interpolated(self, text: str, place: Place) -> str:
        def value(match: re.Match[str]) -> str:
            if match[0] == "$${":
                return "${"
            name, default = match[1], match[2]
            if _SECRET.search(name):
                self._problem(
                    place,
                    f"{name} is a secret by its name, and every value is written into the run directory and the report",
                    found=text,
                    hint="name the variable where a parameter asks for it, such as `api_key_env`",
                )
                return ""
            if (found := self._environ.get(name)) or (found is not None and default is None):
                return found
            if default is None:
                self._problem(
                    place,
                    f"the environment has no {name}",
                    found=text,
                    hint=f"set it, or write ${{{name}:-default}}; a literal `${{` is written `$${{`",
                )
            return default or ""

        return _VARIABLE.sub(value, text) if "${" in text else text

    def _known_tag(self, node: yaml.Node, kind: str, place: Place) -> None:
        if node.tag != f"{_TAG}{kind}":
            self._problem(place, f"the tag {node.tag} is not known here; leave it out")

    def _problem(self, place: Place, message: str, *, found: object = None, hint: str | None = None) -> None:
        text = None if found is None else shown(found)
        key = key_text(place.path)
        self.problems.append(Problem(file=place.file, line=place.line, key=key, message=message, found=text, hint=hint))


def scalar(text: str) -> bool | int | float | str | None:
    """What an unquoted word means."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else text
    return text


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _syntax_problem(error: yaml.YAMLError, text: str, file: str) -> Problem:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or str(error)
    context = getattr(error, "context", None)
    line = mark.line + 1 if mark is not None else None
    lines = text.splitlines()
    stands = lines[line - 1].strip() if line is not None and line <= len(lines) else None
    hint = None
    if stands and "${" in stands:
        hint = "quote values that hold ${...} inside { } or [ ]"
    elif (stands and stands.startswith(("@", "`", "%"))) or "\t" in (lines[line - 1] if stands and line else ""):
        hint = "YAML is indented by spaces, and words that begin with @, ` or % need quotes"
    message = f"is not YAML: {f'{context}, ' if context else ''}{what}"
    return Problem(file=file, line=line, message=message, found=shown(stands) if stands else None, hint=hint)
