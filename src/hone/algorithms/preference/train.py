"""Learning from preferences by any objective: DPO, IPO, SimPO, ORPO, KTO, or a reward model's.

DPO: Rafailov et al. 2023 (arXiv 2305.18290); `losses` has the papers of the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tinker
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from hone.algorithms.config import OptimizerConfig, TrainingConfig
from hone.algorithms.data_order import DataOrder
from hone.algorithms.evaluation import Evaluator, evaluate
from hone.algorithms.frozen_weights import frozen_sampler
from hone.algorithms.learning_rate import rate_at
from hone.algorithms.preference.objectives import AnyObjective, Dpo
from hone.algorithms.preference.reference import score, summed_logprobs
from hone.algorithms.run_directory import Checkpoint, MetricSink
from hone.algorithms.steps import adam_params
from hone.algorithms.training_session import begin, highest_rate, is_due, training_session
from hone.errors import UserError
from hone.observe.progress import Display, silent


class PreferenceConfig(TrainingConfig):
    objective: AnyObjective = Field(default_factory=Dpo)
    """What is learned, by its `kind`."""
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-5, schedule="linear")
    batch_size: PositiveInt = 32
    """Examples in a step."""
    epochs: PositiveInt = 1
    max_steps: PositiveInt | None = None
    seed: int = 0
    """Draws the order of the examples."""
    shuffle: bool = True
    """Otherwise each epoch has the examples in the order in which they are given."""
    concurrency: PositiveInt = 256
    """Requests to the reference under way at once."""
    eval_every: NonNegativeInt = 10
    """Steps between evaluations, which see the weights before the step; 0 for none."""


async def train(
    config: PreferenceConfig,
    service: tinker.ServiceClient,
    examples: Sequence[Any],
    run_dir: Path,
    *,
    evaluators: Sequence[Evaluator] = (),
    hidden_size: int | None = None,
    sinks: Sequence[MetricSink] = (),
    display: Display = silent,
) -> Checkpoint:
    """Train on `examples`, `Pair`s or for KTO `Judged` answers, and return the last checkpoint.

    An interrupted run goes on to the same numbers.
    """
    if not examples:
        raise UserError("there is nothing to train on: `examples` is empty")
    objective = config.objective
    order = DataOrder(len(examples), config.batch_size, config.epochs, config.seed, config.shuffle)
    total_steps = min(order.steps, config.max_steps or order.steps)
    objective.check([examples[row] for row in order.batch(step)] for step in range(total_steps))
    highest = highest_rate(config.optimizer, config.model.name, hidden_size)
    slots = asyncio.Semaphore(config.concurrency)

    with training_session(run_dir, config, objective.kind, total_steps, sinks, display) as session:
        if session.finished:
            return session.last
        training = await begin(service, config.model, session.run)
        reference = None
        if objective.needs_reference:
            reference = await frozen_sampler(service, training, session.run, "reference")
        for step in session.steps:
            measures = await evaluate(training, evaluators, step) if is_due(config.eval_every, step) else {}
            data_D = objective.datums([examples[row] for row in order.batch(step)])
            reference_D = None
            if reference is not None:
                reference_D = summed_logprobs(data_D, await score(reference, data_D, slots))
            rate = rate_at(config.optimizer, highest, step, total_steps)
            loss = StepLoss(objective, reference_D)
            gradient = training.forward_backward_custom(data_D, loss)
            update = training.optim_step(adam_params(config.optimizer, rate))
            await gradient
            await update
            metrics = measures | {
                "epoch": order.epoch(step),
                "progress": (step + 1) / total_steps,
                "learning_rate": rate,
                "num_examples": len(order.batch(step)),
                "num_tokens": sum(datum.model_input.length for datum in data_D),
                f"{objective.kind}_loss": loss.value,
                **loss.metrics,
            }
            session.log(step, metrics, f"loss {loss.value:.3f}")
            await session.save_if_due(training, step)
            if session.stopped:
                return session.last
        measures = await evaluate(training, evaluators, total_steps) if config.eval_every else {}
        return await session.finish(training, measures)


class StepLoss:
    """An objective as the SDK calls it, with this step's reference scores; keeps what its last call found.

    Its value is kept here, as not every release of the SDK reports that of a custom loss.
    """

    def __init__(self, objective: AnyObjective, reference_D: Tensor | None) -> None:
        self._objective = objective
        self._reference_D = reference_D
        self.value = float("nan")
        self.metrics: dict[str, float] = {}

    def __call__(self, data_D: list[tinker.Datum], logprobs_D: list[Tensor]) -> tuple[Tensor, dict[str, float]]:
        loss, self.metrics = self._objective.loss(data_D, logprobs_D, self._reference_D)
        self.value = loss.item()
        return loss, self.metrics
