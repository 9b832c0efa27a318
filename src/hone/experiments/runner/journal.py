"""What happened, in order, one JSON object a line. A line that a crash cut off is dropped when the file is opened."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hone.errors import UserError
from hone.storage import jsonl


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class Lines:
    """A file of JSON objects that only grows. What was appended is on disk before `append` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        jsonl.drop_cut_line(path)
        try:
            self.rows = jsonl.read(path)
        except jsonl.LineError as error:
            raise UserError(f"{error}; mend or delete the line") from None

    def append(self, row: dict[str, Any]) -> None:
        jsonl.append(self.path, row, durable=True)
        self.rows.append(row)


class Journal:
    """The events of an experiment."""

    def __init__(self, path: Path, now: Callable[[], str] = utc_now) -> None:
        self._lines, self._now = Lines(path), now

    def note(self, event: str, **facts: Any) -> None:
        self._lines.append({"at": self._now(), "event": event, **facts})

    def of(self, event: str) -> list[dict[str, Any]]:
        return [row for row in self._lines.rows if row["event"] == event]
