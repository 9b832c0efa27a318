"""Measures of a model while it is trained."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import tinker

from hone.algorithms.datums import floats
from hone.algorithms.scoring import target_logprobs
from hone.algorithms.steps import mean_nll


class Evaluator(Protocol):
    """Named numbers about the weights behind a sampling client."""

    async def __call__(self, sampler: tinker.SamplingClient) -> Mapping[str, float]: ...


@runtime_checkable
class StepEvaluator(Protocol):
    """An evaluator that is told when in the run it measures: it may keep a record of its own, or end the run."""

    async def __call__(self, sampler: tinker.SamplingClient) -> Mapping[str, float]: ...

    async def at_step(self, sampler: tinker.SamplingClient, step: int) -> Mapping[str, float]:
        """In place of a call: `step` optimizer steps have been done."""
        ...


async def evaluate(training: tinker.TrainingClient, evaluators: Sequence[Evaluator], step: int) -> dict[str, float]:
    """Every measure on the weights as they are after all steps submitted so far, `step` of them, under `test/`."""
    if not evaluators:
        return {}
    return await measure(await training.save_weights_and_get_sampling_client(), evaluators, step)


async def measure(sampler: tinker.SamplingClient, evaluators: Sequence[Evaluator], step: int) -> dict[str, float]:
    """Every measure of the sampler's weights, which are those after `step` steps, under `test/`."""

    async def one(evaluator: Evaluator) -> Mapping[str, float]:
        if isinstance(evaluator, StepEvaluator):
            return await evaluator.at_step(sampler, step)
        return await evaluator(sampler)

    found = await asyncio.gather(*(one(evaluator) for evaluator in evaluators))
    return {f"test/{name}": value for measures in found for name, value in measures.items()}


@dataclass(frozen=True)
class HeldOutNll:
    """Mean negative log-likelihood of the weighted targets of examples that are never trained on, in nats."""

    examples_D: Sequence[tinker.Datum]
    concurrency: int = 64

    async def __call__(self, sampler: tinker.SamplingClient) -> Mapping[str, float]:
        logprobs_D = await target_logprobs(sampler, self.examples_D, asyncio.Semaphore(self.concurrency))
        return {"nll": mean_nll(logprobs_D, [floats(example.loss_fn_inputs["weights"]) for example in self.examples_D])}
