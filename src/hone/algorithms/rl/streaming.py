"""GRPO with streaming minibatches: gradients of complete groups are computed while other groups are still sampled.

All groups of a step are sampled with the same weights, and one optimizer step follows their gradients: it learns what
`train` learns, from the same samples; what it saves is the time in which the trainer would wait for the slowest
episode; where both share processors that are busy anyway, it saves none. With `num_substeps` the optimizer also steps
on the way, each time that an equal share of the groups is complete. A penalty that needs the mean of the whole batch
(`kl_penalty`) is for the other loops.

Shao et al. 2024 (arXiv 2402.03300), like `train`; pipelined over minibatches as Tinker's cookbook does.

Legend: `_P` problems, `_D` data.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal

import tinker
from pydantic import PositiveInt, model_validator

from hone.algorithms.evaluation import Evaluator, measure
from hone.algorithms.learning_rate import rate_at
from hone.algorithms.rl.advantages import training_data
from hone.algorithms.rl.compaction import Compactor
from hone.algorithms.rl.config import RlConfig
from hone.algorithms.rl.kl import pre_post_kl
from hone.algorithms.rl.metrics import episode_metrics
from hone.algorithms.rl.rollouts import check_lost, stream_groups
from hone.algorithms.rl.transcripts import Decode, write_transcripts
from hone.algorithms.rl.updates import (
    Stopwatch,
    SubmittedUpdate,
    acting,
    publish,
    submit_gradient,
    submit_optimizer_step,
)
from hone.algorithms.run_directory import Checkpoint, MetricSink
from hone.algorithms.training_session import begin, highest_rate, is_due, training_session
from hone.algorithms.types import RLDataset, TrajectoryGroup
from hone.errors import UserError
from hone.observe.progress import Display, silent


class StreamingConfig(RlConfig):
    groups_per_minibatch: PositiveInt = 4
    """Complete groups that make a gradient. Fewer start the trainer earlier; more fill its batches better."""
    order: Literal["completed", "dataset"] = "completed"
    """Gradients are sums, and floating-point sums depend on their order. In that of completion nothing waits, and a run
    repeated differs in its last bits (with `num_substeps` in more: another group may be among the first); in that of
    the dataset it has the same bits, and a slow group holds up those behind it."""

    @model_validator(mode="before")
    @classmethod
    def _has_no_penalty(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("kl_penalty") is not None:
            raise ValueError(
                "`kl_penalty` subtracts its mean over the whole batch, and `streaming` sends gradients before that; "
                "train with `rl.train` or `rl.asynchronous`, or without it"
            )
        return given


async def train(
    config: StreamingConfig,
    service: tinker.ServiceClient,
    dataset: RLDataset,
    run_dir: Path,
    *,
    evaluators: Sequence[Evaluator] = (),
    compactor: Compactor | None = None,
    decode: Decode = str,
    hidden_size: int | None = None,
    sinks: Sequence[MetricSink] = (),
    display: Display = silent,
) -> Checkpoint:
    """As `rl.train.train`. An interrupted run goes on to the same samples, and with `order="dataset"` to the same
    numbers."""
    total_steps = config.steps(len(dataset))
    if not total_steps:
        raise UserError("there is nothing to train on: the dataset has no batches")
    highest = highest_rate(config.optimizer, config.model.name, hidden_size)
    slots = asyncio.Semaphore(config.rollouts.concurrency)

    with training_session(run_dir, config, "grpo", total_steps, sinks, display) as session:
        if session.finished:
            return session.last
        training = await begin(service, config.model, session.run)
        sampler = await publish(training, config.loss)
        for step in session.steps:
            watch = Stopwatch()
            measures = await measure(sampler, evaluators, step) if is_due(config.eval_every, step) else {}
            watch.lap("evaluation")
            policy = acting(sampler, config.rollouts, slots)
            problems_P = dataset.get_batch(step % len(dataset))
            rate = rate_at(config.optimizer, highest, step, total_steps)
            seeds = (config.seed, "train", step)
            in_order = config.order == "dataset"
            arriving = stream_groups(problems_P, policy, seeds, config.rollouts, compactor, in_order=in_order)
            groups_P, update, unstepped = await submit_as_they_come(training, arriving, config, rate, len(problems_P))
            check_lost(groups_P, config.rollouts)
            watch.lap("sampling")

            if unstepped:
                update.steps.append(submit_optimizer_step(training, config.optimizer, rate))
            published = publish(training, config.loss) if update.gradients else None
            learned = await update.metrics()
            sampler = await published if published else sampler
            trained_D = [item for gradient in update.gradients for item in gradient.data_D]
            drift = await pre_post_kl(trained_D, sampler, slots) if config.post_kl and trained_D else {}
            watch.lap("training")  # what sampling did not hide

            facts = {"progress/batch": step, "progress/done_frac": (step + 1) / total_steps, "optim/lr": rate}
            episodes = episode_metrics(groups_P)
            sent = {"minibatches": len(update.gradients)}
            metrics = facts | measures | episodes | sent | learned | drift | watch.seconds()
            session.log(step, metrics, f"reward {episodes['env/all/reward/total']:.3f}")
            write_transcripts(run_dir, step, groups_P, config.transcripts, decode, config.advantage)
            await session.save_if_due(training, step)
            if session.stopped:
                return session.last
        measures = await measure(sampler, evaluators, total_steps) if config.eval_every else {}
        return await session.finish(training, measures)


async def submit_as_they_come(
    training: tinker.TrainingClient,
    arriving: AsyncGenerator[tuple[int, TrajectoryGroup], None],
    config: StreamingConfig,
    rate: float,
    groups: int,
) -> tuple[list[TrajectoryGroup], SubmittedUpdate, bool]:
    """Send the gradients of the `groups` that arrive, and the optimizer steps on the way.

    Returns the groups in the dataset's order, what was sent, and whether an optimizer step is to follow: who sends it
    has first seen that not too many groups are lost.
    """
    arrived: dict[int, TrajectoryGroup] = {}
    update = SubmittedUpdate([], [])
    step_after = ends_of_substeps(groups, config.num_substeps)
    unstepped = False
    minibatch: list[TrajectoryGroup] = []
    async with aclosing(arriving):
        async for index, group in arriving:
            arrived[index] = group
            minibatch.append(group)
            at_end = len(arrived) in step_after or len(arrived) == groups
            if len(minibatch) < config.groups_per_minibatch and not at_end:
                continue
            data_D = training_data(
                minibatch,
                config.advantage,
                remove_constant=config.remove_constant_groups,
                provenance=config.loss.needs_provenance,
            )
            if data_D:  # sent, not awaited: the trainer works while the other groups are sampled
                update.gradients.append(submit_gradient(training, data_D, config.loss))
                unstepped = True
            if len(arrived) in step_after and unstepped:
                update.steps.append(submit_optimizer_step(training, config.optimizer, rate))
                unstepped = False
            minibatch = []
    return [group for _, group in sorted(arrived.items())], update, unstepped


def ends_of_substeps(groups: int, substeps: int) -> set[int]:
    """How many groups are complete at the end of each part of a step but its last."""
    parts = min(substeps, groups)
    return {index * groups // parts for index in range(1, parts)}
