"""The layers that make an experiment's values: files it extends, the file, `--set`, and `defaults` under each run.

Mappings merge key by key; everything else replaces what was there. `params` belong to their `kind`: where a layer
names another kind, the params below it are dropped.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from hone.errors import UserError
from hone.experiments.problems import ConfigError, Problem, shown
from hone.experiments.tree import KeyPath, Node, Place, key_text, read_value, read_yaml

EXTENDS = "extends"
DOTTED_KEYS = ("axes", "better", "than")
"""Mappings whose keys are dotted paths themselves."""


def read_layers(file: Path, environ: Mapping[str, str]) -> tuple[Node, list[Problem]]:
    """A file on top of those that it extends.

    Raises:
        UserError: the file itself cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the experiment {file} cannot be read: {_reason(error)}") from error
    problems: list[Problem] = []
    return _read(file, text, environ, problems, (file.resolve(),)), problems


def _read(file: Path, text: str, environ: Mapping[str, str], problems: list[Problem], chain: tuple[Path, ...]) -> Node:
    top, found = read_yaml(text, str(file), environ)
    problems += found
    if not isinstance(top.value, dict):
        problems.append(
            Problem(file=str(file), line=1, message="must be a mapping of keys to values", found=shown(top.plain()))
        )
        return replace(top, value={})
    values = dict(top.value)
    named = values.pop(EXTENDS, None)
    merged = Node({}, top.place)
    for node in _names(named, problems):
        assert isinstance(node.value, str)
        base = Path(os.path.normpath(file.parent / node.value))
        message = None
        if base.resolve() in chain:
            message = f"{file} is extended by the file that it extends"
        else:
            try:
                base_text = base.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                message = f"cannot be read: {_reason(error)}"
        if message is not None:
            problems.append(_problem(node.place, message, node.value, "paths are relative to the file that says them"))
            continue
        merged = merge(merged, _read(base, base_text, environ, problems, (*chain, base.resolve())))
    return merge(merged, replace(top, value=values))


def _names(node: Node | None, problems: list[Problem]) -> list[Node]:
    if node is None:
        return []
    listed = node.value if isinstance(node.value, list) else [node]
    wrong = [one for one in listed if not isinstance(one.value, str)]
    problems += [_problem(one.place, "must be a file's path, or a list of them", one.plain()) for one in wrong]
    return [one for one in listed if isinstance(one.value, str)]


def merge(base: Node, over: Node) -> Node:
    """`over` on top of `base`."""
    if not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    below = dict(base.value)
    if "kind" in below and "kind" in over.value and below["kind"].value != over.value["kind"].value:
        below.pop("params", None)
    merged = {key: merge(below[key], node) if key in below else node for key, node in over.value.items()}
    return Node({**below, **merged}, over.place)


def override(top: Node, setting: str, environ: Mapping[str, str]) -> Node:
    """With one `--set path=value`; the value is YAML, indices go into lists.

    Raises:
        ConfigError: it has no `=`, or the path leads through something that has no keys. Whether the path means
            anything is for the schema to say.
    """
    label = f"--set {setting}"
    written, equals, text = setting.partition("=")
    parts = re.sub(r"\[(\d+)\]", r".\1", written.strip()).split(".")
    if not equals or not all(parts):
        raise ConfigError([Problem(file=label, message="must look like `path.to.key=value`")])
    if parts[0] == EXTENDS:
        raise ConfigError([Problem(file=label, key=EXTENDS, message="can be said in files only")])
    return _put(top, tuple(parts), text, label, (), environ)


def _put(node: Node, parts: tuple[str, ...], text: str, label: str, path: KeyPath, environ: Mapping[str, str]) -> Node:
    if not parts:
        value, problems = read_value(text, label, path, environ)
        if problems:
            raise ConfigError(problems)
        return value
    if isinstance(node.value, list):
        return _put_in_list(node, node.value, parts, text, label, path, environ)
    if not isinstance(node.value, dict | None):
        message = f"{key_text(path)} is {shown(node.value)}, which has no keys"
        raise ConfigError([Problem(file=label, key=key_text((*path, *parts)), message=message)])
    values = node.value or {}
    key, rest = _key(values, parts, path)
    below = values.get(key, Node(None, Place(label, None, (*path, key))))
    return replace(node, value={**values, key: _put(below, rest, text, label, (*path, key), environ)})


def _put_in_list(
    node: Node,
    values: list[Node],
    parts: tuple[str, ...],
    text: str,
    label: str,
    path: KeyPath,
    environ: Mapping[str, str],
) -> Node:
    if not parts[0].isdecimal() or int(parts[0]) >= len(values):
        message = f"{key_text(path)} is a list of {len(values)}; its items are 0 to {len(values) - 1}"
        raise ConfigError([Problem(file=label, key=key_text((*path, *parts)), message=message, found=shown(parts[0]))])
    index = int(parts[0])
    changed = list(values)
    changed[index] = _put(values[index], parts[1:], text, label, (*path, index), environ)
    return replace(node, value=changed)


def _key(values: Mapping[str, Node], parts: tuple[str, ...], path: KeyPath) -> tuple[str, tuple[str, ...]]:
    """The next key: the longest that is there (keys may hold dots), else the next part; for axes all that is left."""
    for length in range(len(parts), 0, -1):
        if (joined := ".".join(parts[:length])) in values:
            return joined, parts[length:]
    if path and path[-1] in DOTTED_KEYS:
        return ".".join(parts), ()
    return parts[0], parts[1:]


def with_defaults(top: Node) -> Node:
    """`defaults` under `run`, each of `runs`, and `matrix.base_run`."""
    assert isinstance(top.value, dict)
    values = dict(top.value)
    defaults = values.get("defaults")
    if defaults is None or not isinstance(defaults.value, dict):
        return top
    if "run" in values:
        values["run"] = merge(defaults, values["run"])
    if "runs" in values and isinstance(values["runs"].value, list):
        values["runs"] = replace(values["runs"], value=[merge(defaults, one) for one in values["runs"].value])
    matrix = values.get("matrix")
    if matrix is not None and isinstance(matrix.value, dict) and "base_run" in matrix.value:
        base = merge(defaults, matrix.value["base_run"])
        values["matrix"] = replace(matrix, value={**matrix.value, "base_run": base})
    return replace(top, value=values)


def _problem(place: Place, message: str, found: object, hint: str | None = None) -> Problem:
    return Problem(
        file=place.file, line=place.line, key=key_text(place.path), message=message, found=shown(found), hint=hint
    )


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else (error.strerror or str(error))
