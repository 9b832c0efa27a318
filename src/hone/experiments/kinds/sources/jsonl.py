"""One JSON object in each line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from hone.algorithms.config import Config
from hone.experiments.data.parse import SHOWN, RowError, RowErrors
from hone.experiments.kinds.contract import RawRow, Source
from hone.experiments.kinds.sources.files import lines, matching, shown


class JsonLinesParams(Config):
    path: str = Field(examples=["data/train.jsonl"])
    """The file, from the experiment file's directory; a pattern (`data/*.jsonl`) means all that match. `.gz` is
    unpacked."""


class JsonLines(Source[JsonLinesParams]):
    """Reads line by line, so the file may be larger than memory."""

    Params = JsonLinesParams

    def read(self, home: Path) -> Iterator[RawRow]:
        for path in matching(self.params.path, home):
            yield from read_lines(path, shown(path, home))


def read_lines(path: Path, name: str) -> Iterator[RawRow]:
    """Rows up to the first broken line; then the rest is read for more of them, and `RowErrors` names them all."""
    errors: list[RowError] = []
    count = 0
    for number, line in lines(path):
        place = f"{name}:{number}"
        try:
            value = read_object(line)
        except ValueError as error:
            count += 1
            if len(errors) < SHOWN:
                errors.append(RowError(place, str(error)))
            continue
        if not count:
            yield RawRow(place, value)
    if errors:
        raise RowErrors(errors, count)


def read_object(text: bytes) -> dict[str, Any]:
    """One row. `ValueError` says what it is instead."""
    try:
        value = json.loads(text)
    except UnicodeDecodeError:
        raise ValueError("the line is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"the line is not JSON ({error.msg} at column {error.colno})") from None
    except RecursionError:
        raise ValueError("the line is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"the line is a JSON {type(value).__name__}, not an object")
    return value
