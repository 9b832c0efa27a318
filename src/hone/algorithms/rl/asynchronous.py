"""Asynchronous GRPO: sampling never waits for training, and runs at most K steps ahead of it.

While step s is computed, the problems of the K batches after it are sampled already, with the newest weights there were
when they began. Each step trains on the groups of the oldest weights that are complete, so a slow episode holds up no
step until its weights are K steps old; no group is thrown away, and none is trained when it is more than K steps stale
(cf. Noukhovitch et al. 2024, arXiv 2410.18252). K = 0 is `train`, to the same numbers.

**After an interruption** the run goes on from its newest checkpoint. Which problems were trained is known, so none is
left out or trained twice; those that were sampled ahead are sampled again, with the same seeds and the checkpoint's
weights. Which groups are complete in time depends on the clock, so with K > 0 a run is not repeatable, interrupted or
not; its checkpoints, schedule, and set of problems are.

Legend: `_P` problems, `_D` data.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import tinker
from pydantic import NonNegativeInt

from hone.algorithms.evaluation import Evaluator, measure
from hone.algorithms.learning_rate import rate_at
from hone.algorithms.rl.advantages import training_data
from hone.algorithms.rl.ahead import Ahead, staleness_metrics, trained_problems
from hone.algorithms.rl.compaction import Compactor
from hone.algorithms.rl.config import KlPenaltyConfig, RlConfig
from hone.algorithms.rl.kl import pre_post_kl, reference_sampler, with_penalty
from hone.algorithms.rl.losses import Loss, StableReinforce
from hone.algorithms.rl.metrics import episode_metrics
from hone.algorithms.rl.rollouts import check_lost, run_group
from hone.algorithms.rl.transcripts import Decode, write_transcripts
from hone.algorithms.rl.updates import Stopwatch, acting, publish, submit_update
from hone.algorithms.run_directory import Checkpoint, MetricSink
from hone.algorithms.training_session import begin, highest_rate, is_due, training_session
from hone.algorithms.types import RLDataset, TrajectoryGroup
from hone.errors import UserError
from hone.observe.progress import Display, silent


class AsynchronousConfig(RlConfig):
    loss: Loss = StableReinforce()
    """One that bounds the weight of samples of older policies."""
    max_steps_off_policy: NonNegativeInt = 1
    """K: more hides slower episodes, and learns from older samples."""
    kl_penalty: KlPenaltyConfig | None = None


async def train(
    config: AsynchronousConfig,
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
    """As `rl.train.train`; what an interrupted run repeats, and what not, stands at the top of this file."""
    total_steps = config.steps(len(dataset))
    if not total_steps:
        raise UserError("there is nothing to train on: the dataset has no batches")
    highest = highest_rate(config.optimizer, config.model.name, hidden_size)
    slots = asyncio.Semaphore(config.rollouts.concurrency)

    with training_session(run_dir, config, "grpo", total_steps, sinks, display) as session:
        if session.finished:
            return session.last
        training = await begin(service, config.model, session.run)
        reference = await reference_sampler(service, config.kl_penalty, config.model.name)
        sampler = await publish(training, config.loss)
        trained = trained_problems(session.run.metrics())
        next_batch = 0  # also after an interruption: a slow group of an early batch may not be trained yet
        # What fails is complete sooner than what does not, so one step may have the failures of several batches.
        recent: deque[list[TrajectoryGroup]] = deque(maxlen=2 * config.max_steps_off_policy + 1)
        async with Ahead(config.max_steps_off_policy) as ahead:
            for step in session.steps:
                watch = Stopwatch()
                policy = acting(sampler, config.rollouts, slots)
                for batch in range(next_batch, min(step + config.max_steps_off_policy + 1, total_steps)):
                    for place, builder in enumerate(dataset.get_batch(batch % len(dataset))):
                        if (batch, place) not in trained:
                            seeds = (config.seed, "train", batch, place)
                            sample = partial(run_group, builder, policy, seeds, config.rollouts, compactor)
                            ahead.start((batch, place), step, sample)
                    next_batch = batch + 1
                measures = await measure(sampler, evaluators, step) if is_due(config.eval_every, step) else {}
                watch.lap("evaluation")
                taken = await ahead.take(step, len(dataset.get_batch(step % len(dataset))))
                groups_P = [sampled.group for sampled in taken]
                recent.append(groups_P)
                if len(recent) == recent.maxlen or step + 1 == total_steps:
                    check_lost([group for groups in recent for group in groups], config.rollouts)
                watch.lap("sampling")  # what training did not hide

                data_D = training_data(
                    groups_P,
                    config.advantage,
                    remove_constant=config.remove_constant_groups,
                    provenance=config.loss.needs_provenance,
                )
                data_D, penalty = await with_penalty(data_D, reference, config.kl_penalty, slots)
                rate = rate_at(config.optimizer, highest, step, total_steps)
                update = submit_update(training, data_D, config.loss, config.optimizer, rate, config.num_substeps)
                published = publish(training, config.loss) if data_D else None
                learned = await update.metrics()
                sampler = await published if published else sampler
                drift = await pre_post_kl(data_D, sampler, slots) if config.post_kl and data_D else {}
                watch.lap("training")

                facts = {"progress/batch": step, "progress/done_frac": (step + 1) / total_steps, "optim/lr": rate}
                episodes = episode_metrics(groups_P)
                stale = staleness_metrics(step, taken)
                metrics = facts | measures | episodes | stale | penalty | learned | drift | watch.seconds()
                session.log(step, metrics, f"reward {episodes['env/all/reward/total']:.3f}")
                write_transcripts(run_dir, step, groups_P, config.transcripts, decode, config.advantage)
                await session.save_if_due(training, step)
                if session.stopped:
                    return session.last
        measures = await measure(sampler, evaluators, total_steps) if config.eval_every else {}
        return await session.finish(training, measures)
