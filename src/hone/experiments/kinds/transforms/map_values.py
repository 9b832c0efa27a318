"""Other values for those of a column."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from hone.algorithms.config import Config
from hone.experiments.data.parse import RowError
from hone.experiments.kinds.contract import RawRow, Transform


class MapValuesParams(Config):
    column: str = Field(examples=["label"])
    """Whose values are changed."""
    values: dict[str, Any] = Field(min_length=1, examples=[{"0": "negative", "1": "positive"}])
    """New values by old ones, such as `{"0": negative, "1": positive}`; numbers, true, false and null are written as in
    JSON."""
    others: Literal["refuse", "keep", "drop"] = "refuse"
    """What happens to a value that is not listed: `refuse`, `keep`, or `drop` the row."""
    to: str | None = None
    """The column that gets the new value; without it the old one is replaced."""


class MapValues(Transform[MapValuesParams]):
    """Looks each row's value up."""

    Params = MapValuesParams

    def apply(self, rows: Iterator[RawRow]) -> Iterator[RawRow]:
        told = self.params
        for row in rows:
            if told.column not in row.value:
                raise RowError(row.place, f"it has no column {told.column!r}; it has {', '.join(row.value)}")
            old = row.value[told.column]
            key = old if isinstance(old, str) else json.dumps(old, ensure_ascii=False, default=str)
            if key in told.values:
                yield row.changed({**row.value, told.to or told.column: told.values[key]})
            elif told.others == "keep":
                yield row.changed({**row.value, told.to or told.column: old})
            elif told.others == "refuse":
                raise RowError(row.place, f"{told.column} is {old!r}; `values` has {', '.join(told.values)}")
