"""What the loops do alike with the trainer: publish weights, send updates, and read what came of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import tinker

from hone.algorithms.config import OptimizerConfig
from hone.algorithms.datums import Floats, PolicyDatum
from hone.algorithms.rl.config import RolloutConfig
from hone.algorithms.rl.kl import sample_train_kl
from hone.algorithms.rl.losses import Loss
from hone.algorithms.rl.policy import Policy
from hone.algorithms.steps import StepOutput, adam_params


def publish(training: tinker.TrainingClient, loss: Loss) -> Awaitable[tinker.SamplingClient]:
    """A sampler with the weights after everything sent so far; asked for at once."""
    return training.save_weights_and_get_sampling_client(record_stability_info=loss.needs_provenance)


def acting(sampler: tinker.SamplingClient, config: RolloutConfig, slots: asyncio.Semaphore) -> Policy:
    return Policy(sampler, config.max_tokens, config.temperature, config.context_limit, slots)


@dataclass(frozen=True)
class Gradient:
    """A forward and backward pass that the server has."""

    data_D: Sequence[PolicyDatum]
    future: tinker.APIFuture[tinker.ForwardBackwardOutput]


@dataclass(frozen=True)
class SubmittedUpdate:
    """Gradients and optimizer steps that the server has; `metrics` waits for them."""

    gradients: list[Gradient]
    steps: list[tinker.APIFuture[tinker.OptimStepResponse]]

    async def metrics(self) -> dict[str, float]:
        """Loss, drift and entropy over all data, and what the last optimizer step reported."""
        data_D: list[PolicyDatum] = []
        logprobs_D: list[Floats] = []
        loss = 0.0
        for gradient in self.gradients:
            output = StepOutput.of(await gradient.future)
            loss += output.metrics.get("loss:sum", float("nan"))
            data_D += gradient.data_D
            logprobs_D += output.logprobs_D
        reported: dict[str, float] = {}
        for step in self.steps:
            reported = dict((await step).metrics or {})
        if not data_D:
            return {"num_datums": 0}
        return {
            "num_datums": len(data_D),
            "num_loss_tokens": float(sum(item.mask_T.sum() for item in data_D)),
            "optim/loss": loss,
            **sample_train_kl(data_D, logprobs_D),
            **reported,
        }


def submit_gradient(training: tinker.TrainingClient, data_D: Sequence[PolicyDatum], loss: Loss) -> Gradient:
    settings = loss.settings or None
    return Gradient(data_D, training.forward_backward(loss.prepare(data_D), loss.type, settings))


def submit_optimizer_step(
    training: tinker.TrainingClient, optimizer: OptimizerConfig, rate: float
) -> tinker.APIFuture[tinker.OptimStepResponse]:
    return training.optim_step(adam_params(optimizer, rate))


def submit_update(
    training: tinker.TrainingClient,
    data_D: Sequence[PolicyDatum],
    loss: Loss,
    optimizer: OptimizerConfig,
    rate: float,
    substeps: int = 1,
) -> SubmittedUpdate:
    """`substeps` optimizer steps on as many parts of the data, all sent before any is awaited; none without data."""
    gradients, steps = [], []
    for part in parts(data_D, min(substeps, len(data_D))):
        gradients.append(submit_gradient(training, part, loss))
        steps.append(submit_optimizer_step(training, optimizer, rate))
    return SubmittedUpdate(gradients, steps)


def parts(data_D: Sequence[PolicyDatum], count: int) -> list[Sequence[PolicyDatum]]:
    """In their order, into `count` parts whose sizes differ by one at most."""
    edges = [index * len(data_D) // count for index in range(count + 1)] if count else []
    return [data_D[begin:end] for begin, end in pairwise(edges)]


class Stopwatch:
    """Seconds of the parts of a step, under `time/`."""

    def __init__(self) -> None:
        self._began = self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self._laps[f"time/{name}"] = self._laps.get(f"time/{name}", 0.0) + now - self._last
        self._last = now

    def seconds(self) -> dict[str, float]:
        return {**self._laps, "time/total": time.perf_counter() - self._began}
