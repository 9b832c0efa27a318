"""Measures of a model while it is trained."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import tinker

from hone.algorithms.datums import floats
from hone.algorithms.scoring import target_logprobs
from hone.algorithms.steps import mean_nll


class Evaluator(Protocol):
    """Named numbers about the weights behind a sampling client."""

    async def __call__(self, sampler: tinker.SamplingClient) -> Mapping[str, float]: ...


async def evaluate(training: tinker.TrainingClient, evaluators: Sequence[Evaluator]) -> dict[str, float]:
    """Every measure on the weights as they are after all steps submitted so far, under `test/`."""
    if not evaluators:
        return {}
    return await measure(await training.save_weights_and_get_sampling_client(), evaluators)


async def measure(sampler: tinker.SamplingClient, evaluators: Sequence[Evaluator]) -> dict[str, float]:
    """Every measure of the sampler's weights, under `test/`."""
    found = await asyncio.gather(*(evaluator(sampler) for evaluator in evaluators))
    return {f"test/{name}": value for measures in found for name, value in measures.items()}


@dataclass(frozen=True)
class HeldOutNll:
    """Mean negative log-likelihood of the weighted targets of examples that are never trained on, in nats."""

    examples_D: Sequence[tinker.Datum]
    concurrency: int = 64

    async def __call__(self, sampler: tinker.SamplingClient) -> Mapping[str, float]:
        logprobs_D = await target_logprobs(sampler, self.examples_D, asyncio.Semaphore(self.concurrency))
        return {"nll": mean_nll(logprobs_D, [floats(example.loss_fn_inputs["weights"]) for example in self.examples_D])}
