"""One JSON object in each line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from hone.algorithms.config import Config
from hone.experiments.data.parse import SHOWN, RowError, RowErrors
from hone.experiments.kinds.contract import RawRow, Source
from hone.experiments.kinds.sources.files import lines, matching, shown
from hone.storage.jsonl import Line, LineError


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
            value = Line(path, number, line).read()
        except LineError as error:
            count += 1
            if len(errors) < SHOWN:
                errors.append(RowError(place, f"the line {error.why}"))
            continue
        if not count:
            yield RawRow(place, value)
    if errors:
        raise RowErrors(errors, count)
