"""A directory of recorded conversations.

A `.json` file is one session, `{messages, feedback, metadata}`. A `.jsonl` file holds a session in each line; or, if
its lines have roles, it is one session: a message in each line, and lines with `feedback` or `metadata` between them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from hone.algorithms.config import Config
from hone.errors import UserError
from hone.experiments.data.parse import RowError
from hone.experiments.kinds.contract import RawRow, Source
from hone.experiments.kinds.sources.files import shown
from hone.experiments.kinds.sources.jsonl import read_lines
from hone.storage.jsonl import Line, LineError

SUFFIXES = (".json", ".jsonl")


class TracesParams(Config):
    path: str = Field(examples=["traces"])
    """The directory, from the experiment file's; directories in it are read too."""


class Traces(Source[TracesParams]):
    """Reads a session at a time, files in the order of their names. Its rows have `messages`, `session` (the file) and
    what the session has of `feedback`, `metadata` and other columns."""

    Params = TracesParams

    def read(self, home: Path) -> Iterator[RawRow]:
        directory = home / Path(self.params.path).expanduser()
        if not directory.is_dir():
            raise UserError(f"the directory of traces {self.params.path!r} is not there (looked for {directory})")
        files = sorted(path for path in directory.rglob("*") if path.suffix in SUFFIXES and path.is_file())
        if not files:
            raise UserError(f"the directory of traces {self.params.path!r} has no .json or .jsonl files")
        for path in files:
            session = path.relative_to(directory).with_suffix("").as_posix()
            for row in _sessions(path, shown(path, home)):
                yield RawRow(row.place, {"session": session, **row.value})


def _sessions(path: Path, name: str) -> Iterator[RawRow]:
    if path.suffix == ".json":
        try:
            yield _session(name, Line(path, 1, path.read_bytes()).read())
        except LineError as error:
            raise RowError(name, f"the file {error.why}") from None
        return
    rows = read_lines(path, name)
    first = next(rows, None)
    if first is None:
        raise RowError(name, "the file is empty")
    if "messages" in first.value:
        yield _session(first.place, first.value)
        for row in rows:
            yield _session(row.place, row.value)
    else:
        yield _of_messages(name, [first, *rows])


def _session(place: str, value: Mapping[str, Any]) -> RawRow:
    if "messages" not in value:
        raise RowError(place, f"a session has messages; this has {', '.join(value) or 'nothing'}")
    return RawRow(place, value)


def _of_messages(name: str, lines: list[RawRow]) -> RawRow:
    """One session whose messages stand in a line each."""
    messages: list[Any] = []
    beside: dict[str, Any] = {}
    for line in lines:
        if "role" in line.value:
            messages.append(line.value)
        elif set(line.value) <= {"feedback", "metadata", "tools"}:
            beside.update(line.value)
        else:
            found = json.dumps(line.value, ensure_ascii=False)[:100]
            raise RowError(line.place, f"it is neither a session, nor a message, nor feedback or metadata: {found}")
    return RawRow(name, {"messages": messages, **beside})
