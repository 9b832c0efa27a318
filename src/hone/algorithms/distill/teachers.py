"""What a teacher says of an answer. Legend: `_A` one value per token of the answer, `_AK` K candidates for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import tinker

from hone.algorithms.datums import Floats
from hone.errors import UserError


async def answer_logprobs(teacher: tinker.SamplingClient, prompt: Sequence[int], answer: Sequence[int]) -> Floats:
    """`[A]`: how likely the teacher finds each token of `answer` after `prompt`, in nats."""
    scores = await teacher.compute_logprobs(tinker.ModelInput.from_ints([*prompt, *answer]))
    return np.array(scores[len(prompt) :], dtype=np.float32)


@dataclass(frozen=True)
class SoftAnswer:
    """The teacher's K likeliest tokens at each place of an answer."""

    tokens_AK: npt.NDArray[np.int64]
    probabilities_AK: Floats
    """Of each row they sum to one."""

    @property
    def entropy_A(self) -> Floats:
        """In nats, of the renormalised rows: what is left of the cross-entropy when the student has learned all."""
        p_AK = self.probabilities_AK
        entropy_A: Floats = -(p_AK * np.log(np.where(p_AK > 0, p_AK, 1.0))).sum(axis=1)
        return entropy_A


async def soft_answer(
    teacher: tinker.SamplingClient, prompt: Sequence[int], answer: Sequence[int], candidates: int
) -> SoftAnswer:
    """The teacher's distribution at every place of `answer`, cut to its `candidates` likeliest tokens, renormalised."""
    response = await teacher.sample(
        tinker.ModelInput.from_ints([*prompt, *answer]),
        num_samples=1,
        sampling_params=tinker.SamplingParams(max_tokens=1),
        include_prompt_logprobs=True,
        topk_prompt_logprobs=candidates,
    )
    rows = response.topk_prompt_logprobs
    if rows is None or any(not row for row in rows[len(prompt) :]):
        raise UserError("the service does not say which tokens of a prompt are likeliest; distil on-policy instead")
    tokens_AK = np.zeros((len(answer), candidates), dtype=np.int64)
    logprobs_AK = np.full((len(answer), candidates), -np.inf, dtype=np.float64)
    for place, row in enumerate(rows[len(prompt) :]):
        for rank, (token, logprob) in enumerate((row or [])[:candidates]):
            tokens_AK[place, rank], logprobs_AK[place, rank] = token, logprob
    weights_AK = np.exp(logprobs_AK - logprobs_AK.max(axis=1, keepdims=True))
    return SoftAnswer(tokens_AK, (weights_AK / weights_AK.sum(axis=1, keepdims=True)).astype(np.float32))
