"""Some of the rows, drawn at random and in their order."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator

from pydantic import Field, PositiveInt, model_validator

from hone.algorithms.config import Config
from hone.experiments.data.parse import canonical
from hone.experiments.kinds.contract import RawRow, Transform


class SampleParams(Config):
    rows: PositiveInt | None = Field(default=None, examples=[1000])
    """How many; all, if there are fewer. So many are held in memory."""
    share: float | None = Field(default=None, gt=0, le=1)
    """In place of `rows`: about this share of them."""
    seed: int = 0
    """Another seed, other rows."""

    @model_validator(mode="after")
    def _one(self) -> SampleParams:
        if (self.rows is None) == (self.share is None):
            raise ValueError("give either `rows` or `share`")
        return self


class Sample(Transform[SampleParams]):
    """Whether a row is drawn depends on its content and the seed: data that grows keeps nearly all that were drawn."""

    Params = SampleParams

    def apply(self, rows: Iterator[RawRow]) -> Iterator[RawRow]:
        if self.params.share is not None:
            edge = self.params.share * 2**64
            return (row for row in rows if self._lot(row) < edge)
        return self._lowest(rows, self.params.rows or 0)

    def _lowest(self, rows: Iterator[RawRow], count: int) -> Iterator[RawRow]:
        drawn = heapq.nsmallest(count, enumerate(rows), key=lambda pair: (self._lot(pair[1]), pair[0]))
        for _, row in sorted(drawn, key=lambda pair: pair[0]):
            yield row

    def _lot(self, row: RawRow) -> int:
        content = f"{self.params.seed}\0".encode() + canonical(row.origin)
        return int.from_bytes(hashlib.sha256(content).digest()[:8])
