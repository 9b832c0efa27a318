"""Keeps the rows for which a condition holds."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field, field_validator

from hone.algorithms.config import Config
from hone.experiments.data.parse import RowError
from hone.experiments.expressions import Expression, ExpressionError
from hone.experiments.kinds.contract import RawRow, Transform


class FilterParams(Config):
    where: str = Field(examples=["words(answer) > 3"])
    """The condition, such as `words(answer) > 3 and lang == 'en'` or `get(meta.score, 0) >= 0.5`. A column that a row
    lacks is an error; `has(column)` asks for it first."""

    @field_validator("where")
    @classmethod
    def _readable(cls, where: str) -> str:
        try:
            Expression(where)
        except ExpressionError as error:
            raise ValueError(str(error)) from None
        return where


class Filter(Transform[FilterParams]):
    """Drops every row that the condition is not true of."""

    Params = FilterParams

    def apply(self, rows: Iterator[RawRow]) -> Iterator[RawRow]:
        condition = Expression(self.params.where)
        for row in rows:
            try:
                keep = condition.holds(row.value)
            except ExpressionError as error:
                raise RowError(row.place, str(error)) from None
            if keep:
                yield row
