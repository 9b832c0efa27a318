"""The frozen model that some objectives compare with: scores of its own, and sums of scores."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import tinker
import torch
from torch import Tensor

from hone.algorithms.scoring import target_logprobs


async def score(
    sampler: tinker.SamplingClient, data_D: Sequence[tinker.Datum], slots: asyncio.Semaphore
) -> list[Tensor]:
    """The log-probability of every target `[T]` of every datum under `sampler`."""
    return [torch.from_numpy(logprobs) for logprobs in await target_logprobs(sampler, data_D, slots)]


def summed_logprobs(data_D: Sequence[tinker.Datum], logprobs_D: Sequence[Tensor]) -> Tensor:
    """`sum(w * logprob)` of each datum, `[D]`: the log-probability of its answer.

    Policy and reference are summed by this one function: two ways of adding would differ in last bits, and a model
    would seem to prefer something before it has learned anything.
    """
    weights_D = [datum.loss_fn_inputs["weights"].to_torch() for datum in data_D]
    return torch.stack([weights @ logprobs for weights, logprobs in zip(weights_D, logprobs_D, strict=True)])
