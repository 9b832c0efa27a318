"""Rows that stand in the experiment file itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from hone.algorithms.config import Config
from hone.experiments.kinds.contract import RawRow, Source


class RowsParams(Config):
    rows: list[dict[str, Any]] = Field(min_length=1, examples=[[{"prompt": "2 + 3?", "gold": "5"}]])
    """The rows, each an object with its columns."""


class Rows(Source[RowsParams]):
    """Gives the rows as they stand there."""

    Params = RowsParams

    def read(self, home: Path) -> Iterator[RawRow]:
        for number, value in enumerate(self.params.rows):
            yield RawRow(f"rows[{number}]", value)
