"""Rows whose end `max_length` cuts off: what is left is trained, without its last words and the token that ends them.

A model that often sees such rows learns not to stop, so whoever cuts rows counts them and says which they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hone.algorithms.datums import truncate
from hone.algorithms.renderers import SupervisedExample

NAMED = 5
"""Rows that a sentence names; the rest is counted."""


@dataclass(frozen=True)
class CutRow:
    place: str
    """Its file and line."""
    tokens: int
    """Before it is cut."""
    lost: int
    """Tokens that were to be learned and are not."""


def cut_row(examples: Sequence[SupervisedExample], place: str, max_length: int) -> CutRow | None:
    """What `supervised_datum` takes from a row at `max_length`; None if all that is to be learned is kept."""
    lost = sum(lost_tokens(example, max_length) for example in examples)
    return CutRow(place, max(example.model_input.length for example in examples), lost) if lost else None


def lost_tokens(example: SupervisedExample, max_length: int) -> int:
    """Tokens to be learned that lie beyond `max_length`, or behind an image that does."""
    if example.model_input.length <= max_length:
        return 0
    kept = truncate(example.model_input, max_length).length
    return int((example.weights[kept:] > 0).sum())


def summary(cut: Sequence[CutRow], rows: int, max_length: int) -> str:
    """A sentence for people, of `rows` rows in all."""
    named = [f"{row.place} ({row.tokens} tokens)" for row in cut[:NAMED]]
    more = [f"{len(cut) - NAMED} more"] if len(cut) > NAMED else []
    return (
        f"{len(cut)} of {rows} rows are cut at max_length = {max_length} and learned without their end: "
        f"{', '.join(named + more)}"
    )
