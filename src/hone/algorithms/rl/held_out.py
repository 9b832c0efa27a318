"""Rewards on problems that are never trained on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import tinker

from hone.algorithms.rl.compaction import Compactor
from hone.algorithms.rl.config import RolloutConfig
from hone.algorithms.rl.metrics import episode_metrics
from hone.algorithms.rl.rollouts import run_groups
from hone.algorithms.rl.updates import acting
from hone.algorithms.types import RLDataset


@dataclass(frozen=True)
class HeldOutRewards:
    """An evaluator: the metrics of `metrics.episode_metrics` over a whole dataset, sampled as `rollouts` says.

    Its seeds are the same at every evaluation, so that two of them differ by the weights alone.
    """

    dataset: RLDataset
    rollouts: RolloutConfig
    seed: int = 0
    compactor: Compactor | None = None

    async def __call__(self, sampler: tinker.SamplingClient) -> Mapping[str, float]:
        policy = acting(sampler, self.rollouts, asyncio.Semaphore(self.rollouts.concurrency))
        builders_P = [builder for index in range(len(self.dataset)) for builder in self.dataset.get_batch(index)]
        groups_P = await run_groups(builders_P, policy, (self.seed, "test"), self.rollouts, self.compactor)
        return episode_metrics(groups_P)
