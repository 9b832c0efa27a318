"""One optimizer step through the client: gradient and update are both sent before either is awaited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tinker
from tinker.types import LossFnType

from hone.algorithms.config import OptimizerConfig
from hone.algorithms.datums import Floats, floats


@dataclass(frozen=True)
class SubmittedStep:
    """A step that the server has; its results come when it is done."""

    gradient: tinker.APIFuture[tinker.ForwardBackwardOutput]
    update: tinker.APIFuture[tinker.OptimStepResponse]

    async def result(self) -> StepOutput:
        output = await self.gradient
        await self.update
        return StepOutput.of(output)


@dataclass(frozen=True)
class StepOutput:
    logprobs_D: list[Floats]
    """Of the targets of each datum, under the weights before the step."""
    metrics: dict[str, float]

    @classmethod
    def of(cls, output: tinker.ForwardBackwardOutput) -> StepOutput:
        logprobs_D = [floats(outputs["logprobs"]) for outputs in output.loss_fn_outputs]
        return cls(logprobs_D, dict(output.metrics))


def submit_step(
    training: tinker.TrainingClient,
    data_D: Sequence[tinker.Datum],
    loss: LossFnType,
    adam: tinker.AdamParams,
    loss_config: dict[str, Any] | None = None,
) -> SubmittedStep:
    gradient = training.forward_backward(list(data_D), loss, loss_config)
    update = training.optim_step(adam)
    return SubmittedStep(gradient, update)


def adam_params(config: OptimizerConfig, learning_rate: float) -> tinker.AdamParams:
    return tinker.AdamParams(
        learning_rate=learning_rate,
        beta1=config.beta1,
        beta2=config.beta2,
        eps=config.eps,
        weight_decay=config.weight_decay,
        grad_clip_norm=config.grad_clip_norm,
    )


def mean_nll(logprobs_D: Sequence[Floats], weights_D: Sequence[Floats]) -> float:
    """`-sum(w * logprob) / sum(w)` over a batch; nan if nothing carries weight."""
    total = float(sum(np.sum(weights, dtype=np.float64) for weights in weights_D))
    weighted = sum(
        float(np.dot(logprobs.astype(np.float64), weights))
        for logprobs, weights in zip(logprobs_D, weights_D, strict=True)
    )
    return -weighted / total if total > 0 else float("nan")
