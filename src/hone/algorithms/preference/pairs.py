"""Comparisons as training data. Legend: `_P` pairs, `_D` datums (chosen and rejected in turn)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tinker

from hone.algorithms.datums import supervised_datum
from hone.errors import UserError


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, as datums whose weights are 1 on the answers' tokens."""

    chosen: tinker.Datum
    rejected: tinker.Datum


def pair(prompt: Sequence[int], chosen: Sequence[int], rejected: Sequence[int]) -> Pair:
    """From the tokens of a prompt and of two answers to it, their ends of turn included."""
    return Pair(answer_datum(prompt, chosen), answer_datum(prompt, rejected))


def answer_datum(prompt: Sequence[int], answer: Sequence[int]) -> tinker.Datum:
    if not prompt or not answer:
        raise UserError(
            f"an answer to be judged needs a prompt and an answer; found {len(prompt)} and {len(answer)} tokens"
        )
    sequence = tinker.ModelInput.from_ints([*prompt, *answer])
    return supervised_datum(sequence, [0.0] * len(prompt) + [1.0] * len(answer), mean=False)
