"""What happened, in order, one JSON object a line. A line that a crash cut off is dropped when the file is opened."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hone.errors import UserError
from hone.storage.atomic import write_text


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class Lines:
    """A file of JSON objects that only grows. What was appended is on disk before `append` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            write_text(path, whole)
        self.rows: list[dict[str, Any]] = []
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                self.rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise UserError(f"{path}:{number} is not JSON ({error.msg}); mend or delete the line") from None

    def append(self, row: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.rows.append(row)


class Journal:
    """The events of an experiment."""

    def __init__(self, path: Path, now: Callable[[], str] = utc_now) -> None:
        self._lines, self._now = Lines(path), now

    def note(self, event: str, **facts: Any) -> None:
        self._lines.append({"at": self._now(), "event": event, **facts})

    def of(self, event: str) -> list[dict[str, Any]]:
        return [row for row in self._lines.rows if row["event"] == event]
