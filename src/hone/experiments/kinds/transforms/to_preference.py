"""Pairs of a better and a worse answer, from the forms in which data has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import NonNegativeFloat

from hone.algorithms.config import Config
from hone.algorithms.messages import Message, MessageError, read_messages
from hone.experiments.data.parse import RowError
from hone.experiments.kinds.contract import RawRow, Transform


class ToPreferenceParams(Config):
    chosen: str = "chosen"
    """The column of the better answer, or of the whole conversation that ends with it."""
    rejected: str = "rejected"
    """The column of the worse one."""
    completions: str = "completions"
    """The column with several answers, where there is no better and worse one."""
    scores: str = "scores"
    """The column with a number for each of them: the highest is chosen, the lowest rejected."""
    margin: NonNegativeFloat = 0.0
    """Rows whose highest and lowest score differ by no more than this say nothing, and are dropped."""


class ToPreference(Transform[ToPreferenceParams]):
    """Makes `chosen` and `rejected`; and `prompt`, where it is only what two whole conversations begin with."""

    Params = ToPreferenceParams

    def apply(self, rows: Iterator[RawRow]) -> Iterator[RawRow]:
        for row in rows:
            made = self._pair(row) or self._scored(row)
            if made is not None:
                yield made

    def _pair(self, row: RawRow) -> RawRow | None:
        told = self.params
        chosen, rejected = row.value.get(told.chosen), row.value.get(told.rejected)
        if chosen is None or rejected is None:
            return None
        rest = {name: one for name, one in row.value.items() if name not in (told.chosen, told.rejected)}
        made = {"chosen": chosen, "rejected": rejected}
        if row.value.get("prompt") is None:
            made = _divided(row, chosen, rejected)
        return row.changed({**rest, **made})

    def _scored(self, row: RawRow) -> RawRow | None:
        told = self.params
        answers, scores = row.value.get(told.completions), row.value.get(told.scores)
        if not isinstance(answers, Sequence) or not isinstance(scores, Sequence) or isinstance(answers, str):
            raise RowError(
                row.place,
                f"it has neither {told.chosen} and {told.rejected} nor lists of {told.completions} and {told.scores}; "
                f"it has {', '.join(row.value)}",
            )
        if len(answers) != len(scores) or not all(isinstance(score, int | float) for score in scores):
            raise RowError(
                row.place, f"{told.scores} has {scores!r}; it has a number for each of {len(answers)} answers"
            )
        if not scores or max(scores) - min(scores) <= told.margin:
            return None
        best, worst = (answers[scores.index(edge(scores))] for edge in (max, min))
        rest = {name: one for name, one in row.value.items() if name not in (told.completions, told.scores)}
        return row.changed({**rest, "chosen": best, "rejected": worst})


def _divided(row: RawRow, chosen: Any, rejected: Any) -> dict[str, list[Message]]:
    """What both conversations begin with, and how each goes on."""
    try:
        one, other = read_messages(chosen, "chosen"), read_messages(rejected, "rejected")
    except MessageError as error:
        raise RowError(row.place, f"without a prompt both are conversations: {error}") from None
    shared = 0
    while shared < min(len(one), len(other)) and one[shared] == other[shared]:
        shared += 1
    if not 0 < shared < min(len(one), len(other)):
        raise RowError(row.place, "chosen and rejected do not begin alike and then differ, so there is no prompt")
    return {"prompt": one[:shared], "chosen": one[shared:], "rejected": other[shared:]}
