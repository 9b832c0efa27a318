"""Problems and episodes in batches, known from the seed and the index alone: a run can go on where it stopped.

They are `types.RLDataset`s. Legend: `_P` problems.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from hone.algorithms.data_order import DataOrder
from hone.algorithms.envs.message_env import GroupBuilder, MessageEnv, TokenLimits
from hone.algorithms.envs.problems import ProblemEnv
from hone.algorithms.graders.grade import Grader, Task
from hone.algorithms.messages import Message
from hone.algorithms.renderers import Renderer
from hone.errors import UserError


@dataclass(frozen=True)
class ProblemDataset:
    """Given problems, in a new order in each epoch."""

    tasks_P: Sequence[Task]
    grader: Grader
    renderer: Renderer
    batch_size: int
    """Problems in a batch; the last one of an epoch may hold fewer."""
    group_size: int
    seed: int = 0
    epochs: int = 1
    before: Sequence[Message] = ()
    """Messages that stand before each question: a system prompt, examples."""
    check_format: Callable[[str], bool] = bool
    format_coef: float = 0.1
    limits: TokenLimits = field(default_factory=TokenLimits)
    tags: tuple[str, ...] = ("problems",)

    def __post_init__(self) -> None:
        if not self.tasks_P:
            raise UserError("there is nothing to train on: `tasks_P` is empty")

    def __len__(self) -> int:
        return self._order.steps

    def get_batch(self, index: int) -> list[GroupBuilder]:
        return [self._builder(self.tasks_P[row]) for row in self._order.batch(index)]

    @property
    def _order(self) -> DataOrder:
        return DataOrder(len(self.tasks_P), self.batch_size, self.epochs, self.seed)

    def _builder(self, task: Task) -> GroupBuilder:
        make = partial(
            ProblemEnv,
            task,
            self.grader,
            before=self.before,
            check_format=self.check_format,
            format_coef=self.format_coef,
        )
        return GroupBuilder(make, self.renderer, self.group_size, self.tags, self.limits)


@dataclass(frozen=True)
class EpisodeDataset:
    """New episodes of one environment in every batch."""

    make: Callable[[int], MessageEnv]
    """The episode of a seed, as in `built_in.ENVIRONMENTS`."""
    renderer: Renderer
    batches: int
    batch_size: int
    group_size: int
    seed: int = 0
    limits: TokenLimits = field(default_factory=TokenLimits)
    tags: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.batches

    def get_batch(self, index: int) -> list[GroupBuilder]:
        if not 0 <= index < self.batches:
            raise UserError(f"there are {self.batches} batches; batch {index} was asked for")
        seeds = np.random.default_rng((self.seed, index)).integers(2**31, size=self.batch_size)
        return [
            GroupBuilder(partial(self.make, int(seed)), self.renderer, self.group_size, self.tags, self.limits)
            for seed in seeds
        ]
