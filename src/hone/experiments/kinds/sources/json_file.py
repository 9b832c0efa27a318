"""A JSON file with a list of objects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from pydantic import Field

from hone.algorithms.config import Config
from hone.errors import UserError
from hone.experiments.data.parse import RowError
from hone.experiments.dotted import value_at
from hone.experiments.kinds.contract import RawRow, Source
from hone.experiments.kinds.sources.files import matching, opened, shown

CHUNK = 1 << 16
"""Characters read at a time."""
CUT = 16
"""A JSON error this near to the end of what was read may only mean that the rest is to come."""


class JsonFileParams(Config):
    path: str = Field(examples=["data/train.json"])
    """The file, from the experiment file's directory; a pattern (`data/*.json`) means all that match. `.gz` is
    unpacked."""
    key: str | None = None
    """Where in the file the list stands, if it is not all of it (dots go into objects). Such a file is read whole; a
    bare list is read row by row, and may be larger than memory."""


class JsonFile(Source[JsonFileParams]):
    """Reads a list of objects."""

    Params = JsonFileParams

    def read(self, home: Path) -> Iterator[RawRow]:
        for path in matching(self.params.path, home):
            name = shown(path, home)
            with opened(path) as stream:
                yield from self._within(stream, name) if self.params.key is not None else _elements(stream, name)

    def _within(self, stream: IO[bytes], name: str) -> Iterator[RawRow]:
        key = self.params.key or ""
        try:
            whole = json.load(stream)
        except ValueError as error:
            raise UserError(f"{name} is not JSON: {error}") from None
        try:
            rows = value_at(whole, key) if isinstance(whole, dict) else None
        except KeyError:
            raise UserError(f"{name} has nothing under {key!r}; it has {', '.join(whole) or 'no keys'}") from None
        if not isinstance(rows, list):
            raise UserError(f"{name} holds no list under {key!r}")
        for number, value in enumerate(rows):
            yield RawRow(f"{name}:{key}[{number}]", _object(value, f"{name}:{key}[{number}]"))


def _elements(stream: IO[bytes], name: str) -> Iterator[RawRow]:
    """The objects of a list, one at a time; a place is the line on which its object begins."""
    text = _Text(stream, name)
    if text.next_character() != "[":
        raise UserError(f"{name} holds no list of objects; `key` says where in it the list stands")
    text.skip(1)
    if text.next_character() == "]":
        return
    while True:
        text.next_character()
        place = f"{name}:{text.line}"
        yield RawRow(place, _object(text.value(place), place))
        sign = text.next_character()
        text.skip(1)
        if sign == "]":
            return
        if sign != ",":
            raise RowError(
                f"{name}:{text.line}", f"the list goes on with {sign!r}, not with a comma" if sign else "it ends"
            )


def _object(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RowError(place, f"it is a JSON {type(value).__name__}, not an object")
    return value


class _Text:
    """A text of which only the part at hand is in memory."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream = stream
        self._name = name
        self._rest = b""
        self._buffer = ""
        self._ended = False
        self._decoder = json.JSONDecoder()
        self.line = 1

    def next_character(self) -> str:
        """What stands after white space; empty at the end."""
        while True:
            stripped = self._buffer.lstrip(" \t\r\n\ufeff")
            self.skip(len(self._buffer) - len(stripped))
            if self._buffer or not self._more(CHUNK):
                return self._buffer[:1]

    def skip(self, characters: int) -> None:
        self.line += self._buffer.count("\n", 0, characters)
        self._buffer = self._buffer[characters:]

    def value(self, place: str) -> object:
        """The JSON value that begins here."""
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer)
            except json.JSONDecodeError as error:
                cut = error.pos >= len(self._buffer) - CUT or error.msg.startswith("Unterminated string")
                # Twice as much each time: a long row is not read over and over.
                if cut and self._more(max(CHUNK, len(self._buffer))):
                    continue
                raise RowError(place, f"it is not JSON ({error.msg})") from None
            except RecursionError:
                raise RowError(place, "it is nested too deeply") from None
            if end == len(self._buffer) and self._more(CHUNK):
                continue  # a number may go on
            self.skip(end)
            return value

    def _more(self, size: int) -> bool:
        if self._ended:
            return False
        data = self._stream.read(size)
        self._ended = not data
        data = self._rest + data
        try:
            text, self._rest = data.decode(), b""
        except UnicodeDecodeError as error:
            if error.end < len(data) or self._ended:
                raise RowError(f"{self._name}:{self.line}", "the file is not UTF-8 from here on") from None
            text, self._rest = data[: error.start].decode(), data[error.start :]
        self._buffer += text
        return bool(text) or not self._ended
