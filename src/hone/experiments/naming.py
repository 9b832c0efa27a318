"""Names of arms: short, fit for files, made of what makes an arm special."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hone.experiments.fields import get, parts

LONGEST_NAME = 80
"""Characters of a name made here, without the seed."""
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_SPEAKS_FOR_ITSELF = ("kind", "name", "path")
"""Last parts of a path that add nothing to their value."""
_FILE_ENDINGS = (".jsonl", ".json", ".csv", ".parquet")
SEED = "seed"


def names_of(values: Sequence[Mapping[str, Any]], base: str) -> list[str]:
    """A short name for each: its values, with the last part of their path where the value alone says too little."""
    if not values:
        return []
    labels = _labels(list(values[0]))
    texts = {path: _texts([one[path] for one in values]) for path in values[0]}
    names = []
    for index in range(len(values)):
        pieces = [_joined(labels[path], values[index][path], texts[path][index]) for path in labels]
        name = "-".join(piece for piece in (base, *pieces) if piece)
        if len(name) > LONGEST_NAME:
            name = f"{name[: LONGEST_NAME - 7]}-{_digest(name)}"
        names.append(name)
    counts = Counter(name.lower() for name in names)
    return [
        f"{name}-{_digest(repr(sorted(one.items())))}"
        if counts[name.lower()] > 1 and _differ(values, names, name)
        else name
        for name, one in zip(names, values, strict=True)
    ]


def _differ(values: Sequence[Mapping[str, Any]], names: Sequence[str], name: str) -> bool:
    """Whether things of the same name are different things."""
    same = [repr(one) for one, other in zip(values, names, strict=True) if other.lower() == name.lower()]
    return len(set(same)) > 1


def _labels(paths: Sequence[str]) -> dict[str, str]:
    """The last part of each path; with the part before it where two would be the same."""
    last = {path: path.rpartition(".")[2] for path in paths}
    counts = Counter(last.values())
    return {
        path: safe("-".join(path.split(".")[-2:])) if counts[leaf] > 1 else "" if leaf in _SPEAKS_FOR_ITSELF else leaf
        for path, leaf in last.items()
    }


def _texts(values: Sequence[Any]) -> list[str]:
    """Values in names: numbers in full, of text the part after the last slash if that tells them apart."""
    whole = [_text(value) for value in values]
    short = [_text(_tail(value)) if isinstance(value, str) else text for value, text in zip(values, whole, strict=True)]
    return short if len(set(short)) == len(set(whole)) else whole


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return safe(repr(value) if isinstance(value, float) else str(value))


def _tail(text: str) -> str:
    tail = text.rstrip("/").rpartition("/")[2]
    for ending in _FILE_ENDINGS:
        tail = tail.removesuffix(ending)
    return tail


def _joined(label: str, value: Any, text: str) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{label}{text}" if number or not label else f"{label}-{text}"


def safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "x"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def from_template(template: str, base: str, full: Mapping[str, Any]) -> str:
    """The group's name: without the seed, which tells its members apart."""

    def value(match: re.Match[str]) -> str:
        if match[1] == "base":
            return base
        return "" if match[1] == SEED else _text(_tail_of(get(full, parts(match[1]))))

    return re.sub(r"-{2,}", "-", PLACEHOLDER.sub(value, template)).strip("-_.")


def _tail_of(value: Any) -> Any:
    return _tail(value) if isinstance(value, str) else value
