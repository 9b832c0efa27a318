"""The first rows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from pydantic import Field, PositiveInt

from hone.algorithms.config import Config
from hone.experiments.kinds.contract import RawRow, Transform


class LimitParams(Config):
    rows: PositiveInt = Field(examples=[1000])
    """How many."""


class Limit(Transform[LimitParams]):
    """Keeps the first rows, and reads no more of the source than them."""

    Params = LimitParams

    def apply(self, rows: Iterator[RawRow]) -> Iterator[RawRow]:
        return islice(rows, self.params.rows)
