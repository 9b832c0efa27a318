"""Measures of a model while it is trained."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import tinker

from hone.algorithms.datums import Floats, floats
from hone.algorithms.steps import mean_nll


class Evaluator(Protocol):
    """Named numbers about the weights behind a sampling client."""

    async def __call__(self, sampler: tinker.SamplingClient) -> Mapping[str, float]: ...


async def evaluate(training: tinker.TrainingClient, evaluators: Sequence[Evaluator]) -> dict[str, float]:
    """Every measure on the weights as they are after all steps submitted so far, under `test/`."""
    if not evaluators:
        return {}
    sampler = await training.save_weights_and_get_sampling_client()
    found = await asyncio.gather(*(evaluator(sampler) for evaluator in evaluators))
    return {f"test/{name}": value for measures in found for name, value in measures.items()}


@dataclass(frozen=True)
class HeldOutNll:
    """Mean negative log-likelihood of the weighted targets of examples that are never trained on, in nats."""

    examples_D: Sequence[tinker.Datum]
    concurrency: int = 64

    async def __call__(self, sampler: tinker.SamplingClient) -> Mapping[str, float]:
        slots = asyncio.Semaphore(self.concurrency)

        async def score(example: tinker.Datum) -> Floats:
            sequence = example.model_input.append_int(int(example.loss_fn_inputs["target_tokens"].data[-1]))
            async with slots:
                logprobs = await sampler.compute_logprobs(sequence)
            return np.array(logprobs[1:], dtype=np.float32)

        logprobs_D = await asyncio.gather(*(score(example) for example in self.examples_D))
        return {"nll": mean_nll(logprobs_D, [floats(example.loss_fn_inputs["weights"]) for example in self.examples_D])}
