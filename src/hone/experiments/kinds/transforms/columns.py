"""Other names for columns, and fewer of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from pydantic import Field, model_validator

from hone.algorithms.config import Config
from hone.experiments.data.parse import RowError
from hone.experiments.dotted import value_at
from hone.experiments.kinds.contract import RawRow, Transform


class ColumnsParams(Config):
    rename: dict[str, str] = Field(default={}, examples=[{"text": "prompt", "meta.label": "gold"}])
    """New names by old ones; an old name may have dots, to take a value out of an object."""
    keep: list[str] | None = None
    """Columns that stay, by their new names; all others go."""
    drop: list[str] = []
    """Columns that go, if they are there."""

    @model_validator(mode="after")
    def _clear(self) -> ColumnsParams:
        if self.keep is not None and self.drop:
            raise ValueError("give `keep` or `drop`, not both")
        if len(set(self.rename.values())) != len(self.rename):
            raise ValueError(f"two columns are renamed to one; found {', '.join(self.rename.values())}")
        return self


class Columns(Transform[ColumnsParams]):
    """Renames, then keeps or drops. A column to rename or to keep that is not there is an error."""

    Params = ColumnsParams

    def apply(self, rows: Iterator[RawRow]) -> Iterator[RawRow]:
        told = self.params
        for row in rows:
            taken = {new: _taken(row, old) for old, new in told.rename.items()}
            values = {name: one for name, one in row.value.items() if name not in told.rename} | taken
            if told.keep is not None:
                values = {name: _taken(row.changed(values), name) for name in told.keep}
            yield row.changed({name: one for name, one in values.items() if name not in told.drop})


def _taken(row: RawRow, name: str) -> object:
    try:
        return value_at(row.value, name)
    except KeyError:
        near = difflib.get_close_matches(name, list(map(str, row.value)), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        found = ", ".join(map(str, row.value)) or "nothing"
        raise RowError(row.place, f"it has no column {name!r}; {hint}it has {found}") from None
