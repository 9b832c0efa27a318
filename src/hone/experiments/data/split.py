"""On which side of a split a row lies: known from the row alone, so data that grows moves no row."""

from __future__ import annotations

import hashlib
from typing import Literal

from hone.experiments.config import SplitConfig
from hone.experiments.data.parse import RowError, canonical
from hone.experiments.dotted import value_at
from hone.experiments.kinds.contract import RawRow

Side = Literal["train", "validation", "test"]


def side_of(row: RawRow, split: SplitConfig) -> Side:
    """The row's side.

    Raises:
        RowError: it has no group, where the split is by group.
    """
    content = canonical(row.origin if split.by == "hash" else _group(row, split.key or ""))
    digest = hashlib.sha256(split.salt.encode() + b"\0" + content).digest()
    place = int.from_bytes(digest[:8]) / 2**64
    # The test side comes first: a validation side that is made larger or smaller takes nothing from it.
    if place < split.test:
        return "test"
    return "validation" if place < split.test + split.validation else "train"


def _group(row: RawRow, key: str) -> object:
    for value in (row.origin, row.value):
        try:
            found = value_at(value, key)
        except KeyError:
            continue
        if found is not None:
            return found
    columns = ", ".join(map(str, row.origin)) or "nothing"
    raise RowError(row.place, f"it has no {key!r}, by which the data is split; it has {columns}")
