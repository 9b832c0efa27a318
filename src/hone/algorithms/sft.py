"""Supervised fine-tuning: learn the weighted tokens of examples by cross-entropy.

Wei et al. 2021 (arXiv 2109.01652) on instructions; the first stage of Ouyang et al. 2022 (arXiv 2203.02155).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tinker
from pydantic import NonNegativeInt, PositiveInt

from hone.algorithms.config import OptimizerConfig, TrainingConfig
from hone.algorithms.data_order import DataOrder
from hone.algorithms.datums import floats
from hone.algorithms.evaluation import Evaluator, evaluate
from hone.algorithms.learning_rate import rate_at
from hone.algorithms.run_directory import Checkpoint, MetricSink
from hone.algorithms.steps import SubmittedStep, adam_params, mean_nll, submit_step
from hone.algorithms.training_session import begin, highest_rate, is_due, training_session
from hone.errors import UserError
from hone.observe.progress import Display, silent


class SftConfig(TrainingConfig):
    optimizer: OptimizerConfig = OptimizerConfig(schedule="linear")
    batch_size: PositiveInt = 32
    """Examples in a step, of any lengths: the engine packs whole sequences by their tokens, so examples need neither
    padding nor packing, nor sorting by length."""
    epochs: PositiveInt = 1
    max_steps: PositiveInt | None = None
    """Stops earlier than the epochs would; the schedule ends there too."""
    seed: int = 0
    """Draws the order of the examples."""
    shuffle: bool = True
    """Otherwise each epoch has the examples in the order in which they are given."""
    eval_every: NonNegativeInt = 10
    """Steps between evaluations, which see the weights before the step; 0 for none."""


Prepare = Callable[[Sequence[Any]], Awaitable[Sequence[tinker.Datum]]]
"""Examples of a step to datums, in their order."""


async def as_they_are(data_D: Sequence[tinker.Datum]) -> Sequence[tinker.Datum]:
    return data_D


async def train(
    config: SftConfig,
    service: tinker.ServiceClient,
    examples: Sequence[Any],
    run_dir: Path,
    *,
    prepare: Prepare = as_they_are,
    evaluators: Sequence[Evaluator] = (),
    hidden_size: int | None = None,
    sinks: Sequence[MetricSink] = (),
    display: Display = silent,
) -> Checkpoint:
    """Train on `examples` and return the last checkpoint.

    They are datums (made by `datums.supervised_datum`), or whatever `prepare` makes the datums of a step from.
    Called again on the directory of a run that was interrupted, it goes on to the same numbers.
    """
    if not examples:
        raise UserError("there is nothing to train on: `examples` is empty")
    order = DataOrder(len(examples), config.batch_size, config.epochs, config.seed, config.shuffle)
    total_steps = min(order.steps, config.max_steps or order.steps)
    highest = highest_rate(config.optimizer, config.model.name, hidden_size)

    with training_session(run_dir, config, "sft", total_steps, sinks, display) as session:
        if session.finished:
            return session.last
        training = await begin(service, config.model, session.run)
        under_way: deque[_Step] = deque()
        for step in session.steps:
            measures = await evaluate(training, evaluators, step) if is_due(config.eval_every, step) else {}
            data_D = await prepare([examples[row] for row in order.batch(step)])
            rate = rate_at(config.optimizer, highest, step, total_steps)
            submitted = submit_step(training, data_D, "cross_entropy", adam_params(config.optimizer, rate))
            facts = {"epoch": order.epoch(step), "progress": (step + 1) / total_steps, "learning_rate": rate}
            under_way.append(_Step(step, facts | measures, data_D, submitted))

            saving = session.saves_after(step)
            # One step stays under way while the next is made, so that the server never waits for its client.
            while len(under_way) > (0 if saving or step == session.steps[-1] else 1):
                done = under_way.popleft()
                metrics = await done.metrics()
                session.log(done.step, metrics, f"nll {metrics['train_mean_nll']:.3f}")
            if saving:  # who asks to stop while metrics are awaited is heard after the next step
                await session.save(training, step)
            if session.stopped:
                return session.last
        measures = await evaluate(training, evaluators, total_steps) if config.eval_every else {}
        return await session.finish(training, measures)


@dataclass(frozen=True)
class _Step:
    """A step that the server is computing."""

    step: int
    facts: dict[str, float | int]
    data_D: Sequence[tinker.Datum]
    submitted: SubmittedStep

    async def metrics(self) -> dict[str, float | int]:
        output = await self.submitted.result()
        weights_D = [floats(datum.loss_fn_inputs["weights"]) for datum in self.data_D]
        return self.facts | {
            "num_sequences": len(self.data_D),
            "num_tokens": sum(datum.model_input.length for datum in self.data_D),
            "num_loss_tokens": float(sum(weights.sum() for weights in weights_D)),
            "train_mean_nll": mean_nll(output.logprobs_D, weights_D),
        }
