"""JSON Lines: files of one JSON object on each line. Every line that cannot be used is named by file and number.

Lines end with a line feed, or with a carriage return before it, and nowhere else: the other separators that Python's
`str.splitlines` knows may stand within a text.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hone.errors import UserError
from hone.storage.atomic import write_text


class LineError(UserError):
    """A line that holds no JSON object."""

    def __init__(self, line: Line, kind: Literal["broken JSON", "not an object"], why: str) -> None:
        super().__init__(f"{line.place} {why}")
        self.kind: Literal["broken JSON", "not an object"] = kind
        self.why = why
        """The text of the error without the place, such as `is a list, not an object`."""


@dataclass(frozen=True)
class Line:
    """A line that is not blank."""

    path: Path
    number: int
    """From 1; blank lines count."""
    text: bytes

    @property
    def place(self) -> str:
        return f"{self.path}:{self.number}"

    def read(self) -> dict[str, Any]:
        """
        Raises:
            LineError: it is not UTF-8, not JSON, or no object.
        """
        try:
            value = json.loads(self.text.decode())
        except UnicodeDecodeError:
            raise LineError(self, "broken JSON", "is not UTF-8") from None
        except json.JSONDecodeError as error:
            raise LineError(self, "broken JSON", f"is not JSON ({error.msg} at column {error.colno})") from None
        except RecursionError:
            raise LineError(self, "broken JSON", "is nested too deeply") from None
        except ValueError as error:  # a number of thousands of digits
            raise LineError(self, "broken JSON", f"cannot be read ({error})") from None
        if not isinstance(value, dict):
            kind = "null" if value is None else f"a {type(value).__name__}"
            raise LineError(self, "not an object", f"is {kind}, not an object")
        return value


def lines(path: Path) -> Iterator[Line]:
    """The lines with something on them.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            for number, text in enumerate(file, start=1):
                if text.strip():
                    yield Line(path, number, text.strip())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def read(path: Path) -> list[dict[str, Any]]:
    """All objects of a file that we wrote; none if it is not there.

    Raises:
        LineError: the first line that is none.
    """
    return [line.read() for line in lines(path)] if path.exists() else []


def append(path: Path, row: Mapping[str, Any], *, durable: bool = False) -> None:
    """`durable`: on disk before this returns."""
    with path.open("a", encoding="utf-8") as file:
        file.write(_line(row))
        if durable:
            file.flush()
            os.fsync(file.fileno())


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """The whole file anew, complete or not at all."""
    write_text(path, "".join(map(_line, rows)))


def drop_cut_line(path: Path) -> None:
    """Shorten a file by a last line that a crash cut off: what is appended next would be glued to it."""
    text = path.read_bytes() if path.exists() else b""
    whole = text.rfind(b"\n") + 1
    if whole != len(text):
        os.truncate(path, whole)


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row) + "\n"
