"""A reward model: a language model that is asked whether an answer is good, trained on pairs.

The reward of an answer is the difference of the log-probabilities of two tokens, "better" and "worse", after a
question. It is a logit, so pairs train it with the Bradley-Terry loss, as the scalar of Ouyang et al. 2022 (arXiv
2203.02155), section 3.5, and no scalar head is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import tinker

from hone.algorithms.preference.pairs import Pair


@dataclass(frozen=True)
class RewardHead:
    """How the question is put, in tokens."""

    question: tuple[int, ...]
    """Follows the answer: a turn that asks for a verdict, up to where the model would begin to speak."""
    better: int
    worse: int

    def sequence(self, prompt: Sequence[int], answer: Sequence[int]) -> list[int]:
        return [*prompt, *answer, *self.question]

    def datum(self, prompt: Sequence[int], answer: Sequence[int]) -> tinker.Datum:
        """Both tokens as targets of the last position: inputs are not shifted, for the next token is the verdict."""
        tokens = self.sequence(prompt, answer)
        targets_T2 = np.tile(np.array([self.better, self.worse], dtype=np.int64), (len(tokens), 1))
        return tinker.Datum(
            model_input=tinker.ModelInput.from_ints(tokens),
            loss_fn_inputs={"target_tokens": tinker.TensorData.from_numpy(targets_T2)},
        )

    def pair(self, prompt: Sequence[int], chosen: Sequence[int], rejected: Sequence[int]) -> Pair:
        return Pair(self.datum(prompt, chosen), self.datum(prompt, rejected))


@dataclass(frozen=True)
class RewardModel:
    """Scores answers with trained weights."""

    sampler: tinker.SamplingClient
    head: RewardHead
    concurrency: int = 64
    """Requests under way at once, two for an answer, however many answers wait."""

    @cached_property
    def _slots(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(self.concurrency)

    async def reward(self, prompt: Sequence[int], answer: Sequence[int]) -> float:
        tokens = self.head.sequence(prompt, answer)

        async def logprob(verdict: int) -> float:
            async with self._slots:
                scores = await self.sampler.compute_logprobs(tinker.ModelInput.from_ints([*tokens, verdict]))
            assert scores[-1] is not None
            return float(scores[-1])

        better, worse = await asyncio.gather(logprob(self.head.better), logprob(self.head.worse))
        return better - worse
