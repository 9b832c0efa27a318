"""GRPO and its family, synchronous: sample a batch with the newest weights, learn from it, repeat.

Shao et al. 2024 (arXiv 2402.03300), without a critic: an episode counts by how much its reward exceeds that of the
others at the same problem. `advantages` has the family's other baselines, `losses` its other objectives. Read this loop
first; `streaming` and `asynchronous` differ from it in when they sample.

Legend: `_P` problems, `_D` data.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import tinker

from hone.algorithms.evaluation import Evaluator, measure
from hone.algorithms.learning_rate import rate_at
from hone.algorithms.rl.advantages import training_data
from hone.algorithms.rl.compaction import Compactor
from hone.algorithms.rl.config import KlPenaltyConfig, RlConfig
from hone.algorithms.rl.kl import pre_post_kl, reference_sampler, with_penalty
from hone.algorithms.rl.metrics import episode_metrics
from hone.algorithms.rl.rollouts import run_groups
from hone.algorithms.rl.transcripts import Decode, write_transcripts
from hone.algorithms.rl.updates import Stopwatch, acting, publish, submit_update
from hone.algorithms.run_directory import Checkpoint, MetricSink
from hone.algorithms.training_session import begin, highest_rate, is_due, training_session
from hone.algorithms.types import RLDataset
from hone.errors import UserError
from hone.observe.progress import Display, silent


class GrpoConfig(RlConfig):
    kl_penalty: KlPenaltyConfig | None = None


async def train(
    config: GrpoConfig,
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
    """Train on the problems of `dataset` and return the last checkpoint.

    `evaluators` see the weights before a step (`held_out.HeldOutRewards` for a held-out dataset); `decode` makes texts
    of tokens for the transcripts. Called again on the directory of a run that was interrupted, it goes on to the same
    numbers, times excepted: seeds follow from a sample's place in the run, and the same weights sample the same.
    """
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
        for step in session.steps:
            watch = Stopwatch()
            measures = await measure(sampler, evaluators, step) if is_due(config.eval_every, step) else {}
            watch.lap("evaluation")
            policy = acting(sampler, config.rollouts, slots)
            problems_P = dataset.get_batch(step % len(dataset))
            groups_P = await run_groups(problems_P, policy, (config.seed, "train", step), config.rollouts, compactor)
            watch.lap("sampling")

            data_D = training_data(
                groups_P,
                config.advantage,
                remove_constant=config.remove_constant_groups,
                provenance=config.loss.needs_provenance,
            )
            data_D, penalty = await with_penalty(data_D, reference, config.kl_penalty, slots)
            rate = rate_at(config.optimizer, highest, step, total_steps)
            update = submit_update(training, data_D, config.loss, config.optimizer, rate, config.num_substeps)
            published = publish(training, config.loss) if data_D else None  # asked for behind the update
            learned = await update.metrics()
            sampler = await published if published else sampler
            drift = await pre_post_kl(data_D, sampler, slots) if config.post_kl and data_D else {}
            watch.lap("training")

            facts = {"progress/batch": step, "progress/done_frac": (step + 1) / total_steps, "optim/lr": rate}
            episodes = episode_metrics(groups_P)
            metrics = facts | measures | episodes | penalty | learned | drift | watch.seconds()
            session.log(step, metrics, f"reward {episodes['env/all/reward/total']:.3f}")
            write_transcripts(run_dir, step, groups_P, config.transcripts, decode, config.advantage)
            await session.save_if_due(training, step)
            if session.stopped:
                return session.last
        measures = await measure(sampler, evaluators, total_steps) if config.eval_every else {}
        return await session.finish(training, measures)
