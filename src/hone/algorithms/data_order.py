"""Which examples a step sees: shuffled anew in each epoch, and the same again after an interruption."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class DataOrder:
    """`examples` rows in batches of `batch_size`, `epochs` times over. The last batch of an epoch may be smaller."""

    examples: int
    batch_size: int
    epochs: int
    seed: int
    shuffle: bool = True
    """Otherwise every epoch has the rows in their own order."""

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.examples // self.batch_size)

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.epochs

    def epoch(self, step: int) -> int:
        return step // self.steps_per_epoch

    def batch(self, step: int) -> list[int]:
        """The rows of step `step`: known from the seed and the step alone."""
        order = np.arange(self.examples)
        if self.shuffle:
            order = np.random.default_rng((self.seed, self.epoch(step))).permutation(self.examples)
        start = step % self.steps_per_epoch * self.batch_size
        return [int(row) for row in order[start : start + self.batch_size]]
