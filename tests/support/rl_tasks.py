"""Small environments over tokens, for tests of reinforcement learning."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import tinker

from hone.algorithms.types import (
    ActionExtra,
    Env,
    EnvGroupBuilder,
    Metrics,
    Observation,
    PromptTooLong,
    StepResult,
    StopCondition,
    Trajectory,
)


@dataclass
class Question(Env):
    """One turn: an answer to a prompt, and a reward for it."""

    prompt: list[int]
    grade: Callable[[list[int]], float]
    stop: StopCondition = field(default_factory=list)

    async def initial_observation(self) -> Observation | PromptTooLong:
        return Observation(tinker.ModelInput.from_ints(self.prompt), self.stop)

    async def step(self, action: list[int], *, extra: ActionExtra | None = None) -> StepResult:
        reward = self.grade(action)
        return StepResult(reward, True, tinker.ModelInput.empty(), self.stop, {"correct": float(reward > 0.5)})


@dataclass
class Dialogue(Env):
    """`turns` turns: after each answer the environment says `reply`, and pays for every `wanted` token."""

    prompt: list[int]
    reply: list[int]
    wanted: int
    turns: int
    stop: StopCondition = field(default_factory=list)
    history: list[int] = field(default_factory=list)
    taken: int = 0

    async def initial_observation(self) -> Observation | PromptTooLong:
        self.history = list(self.prompt)
        return Observation(tinker.ModelInput.from_ints(self.history), self.stop)

    async def step(self, action: list[int], *, extra: ActionExtra | None = None) -> StepResult:
        self.taken += 1
        self.history += [*action, *self.reply]
        reward = action.count(self.wanted) / max(1, len(action))
        return StepResult(
            reward, self.taken == self.turns, tinker.ModelInput.from_ints(self.history), self.stop, {"wanted": reward}
        )


class Broken(Env):
    """Fails where it is told to."""

    def __init__(self, where: str, seconds: float = 0.0) -> None:
        self.where = where
        self.seconds = seconds

    async def initial_observation(self) -> Observation | PromptTooLong:
        if self.where == "observe":
            raise KeyError("no such problem")
        return Observation(tinker.ModelInput.from_ints([1]), [])

    async def step(self, action: list[int], *, extra: ActionExtra | None = None) -> StepResult:
        if self.where == "hang":
            await asyncio.sleep(self.seconds)
        if self.where == "step":
            raise RuntimeError("the grader crashed")
        return StepResult(float("nan") if self.where == "nan" else 1.0, True, tinker.ModelInput.empty(), [])


@dataclass
class Group(EnvGroupBuilder):
    """As many environments as `make` makes; counts what is given back."""

    make: Callable[[], Sequence[Env]]
    tags: tuple[str, ...] = ()
    group_rewards: Callable[[Sequence[Trajectory]], list[tuple[float, Metrics]]] | None = None
    cleaned: int = 0

    async def make_envs(self) -> Sequence[Env]:
        return self.make()

    async def compute_group_rewards(
        self, trajectory_group: list[Trajectory], env_group: Sequence[Env]
    ) -> list[tuple[float, Metrics]]:
        if self.group_rewards is None:
            return await super().compute_group_rewards(trajectory_group, env_group)
        return self.group_rewards(trajectory_group)

    async def cleanup(self) -> None:
        self.cleaned += 1

    def logging_tags(self) -> list[str]:
        return list(self.tags)


@dataclass
class Problems:
    """A dataset: `batches` batches, each made from its index."""

    batches: int
    make: Callable[[int], list[EnvGroupBuilder]]

    def get_batch(self, index: int) -> Sequence[EnvGroupBuilder]:
        return self.make(index)

    def __len__(self) -> int:
        return self.batches


def successors(batches: int, groups: int = 4, members: int = 8, vocabulary: int = 20) -> Problems:
    """Say the token that comes after the prompt's: learnable by the fake service's model in a few steps."""

    def question(token: int) -> Question:
        return Question([token], lambda action: float(action[0] == token + 1))

    def builder(token: int) -> Group:
        return Group(lambda: [question(token) for _ in range(members)], tags=("odd" if token % 2 else "even",))

    return Problems(
        batches, lambda index: [builder(1 + (index * groups + i) % (vocabulary - 2)) for i in range(groups)]
    )
