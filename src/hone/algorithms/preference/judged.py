"""Reinforcement learning where answers are judged together: by a reward model, or by comparing them in pairs.

Legend: `_G` answers to one prompt.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import tinker

from hone.algorithms.preference.reward_model import RewardModel
from hone.algorithms.types import (
    ActionExtra,
    Env,
    EnvGroupBuilder,
    Metrics,
    Observation,
    StepResult,
    StopCondition,
    Trajectory,
)
from hone.errors import UserError

Answers = Sequence[Sequence[int]]


class Jury(Protocol):
    """Rewards of all answers to one prompt, in tokens."""

    async def __call__(self, prompt: Sequence[int], answers_G: Answers) -> list[float]: ...


@dataclass(frozen=True)
class ByRewardModel:
    """Each answer on its own, by a trained reward model."""

    model: RewardModel

    async def __call__(self, prompt: Sequence[int], answers_G: Answers) -> list[float]:
        return list(await asyncio.gather(*(self.model.reward(prompt, answer) for answer in answers_G)))


class Judge(Protocol):
    """1 if `b` is the better answer, -1 if `a` is, 0 for a tie, or something between."""

    async def __call__(self, prompt: Sequence[int], a: Sequence[int], b: Sequence[int]) -> float: ...


@dataclass(frozen=True)
class Tournament:
    """Every answer meets every other, in both orders so that a judge who favours a place favours nobody.

    The reward is the mean result of an answer's matches, from -1 to 1.
    """

    judge: Judge

    async def __call__(self, prompt: Sequence[int], answers_G: Answers) -> list[float]:
        if len(answers_G) < 2:
            raise UserError("answers are compared with each other: `group_size` must be 2 or more")
        matches = list(itertools.permutations(range(len(answers_G)), 2))
        results = await asyncio.gather(*(self.judge(prompt, answers_G[a], answers_G[b]) for a, b in matches))
        rewards_G = [0.0] * len(answers_G)
        for (a, b), result in zip(matches, results, strict=True):
            rewards_G[a] -= result
            rewards_G[b] += result
        return [reward / (2 * (len(answers_G) - 1)) for reward in rewards_G]


@dataclass(frozen=True)
class JudgedPrompts:
    """An `RLDataset` of prompts whose answers a jury rewards."""

    prompts: Sequence[Sequence[int]]
    jury: Jury
    stop: StopCondition
    group_size: int
    batch_size: int
    unfinished_penalty: float = 1.0
    """Taken from the reward of an answer that was cut off before it ended."""

    def __len__(self) -> int:
        return -(-len(self.prompts) // self.batch_size)

    def get_batch(self, index: int) -> Sequence[EnvGroupBuilder]:
        first = index * self.batch_size
        return [JudgedGroup(prompt, self) for prompt in self.prompts[first : first + self.batch_size]]


@dataclass(frozen=True)
class JudgedGroup(EnvGroupBuilder):
    prompt: Sequence[int]
    dataset: JudgedPrompts

    async def make_envs(self) -> Sequence[Env]:
        return [OneAnswer(self.prompt, self.dataset.stop) for _ in range(self.dataset.group_size)]

    async def compute_group_rewards(
        self, trajectory_group: list[Trajectory], env_group: Sequence[Env]
    ) -> list[tuple[float, Metrics]]:
        if not all(trajectory.transitions for trajectory in trajectory_group):
            # A prompt that leaves no room for an answer: the same for all members, and nothing to judge.
            return [(-self.dataset.unfinished_penalty, {"judged": 0.0, "finished": 0.0}) for _ in trajectory_group]
        actions_G = [trajectory.transitions[0].action for trajectory in trajectory_group]
        judged_G = await self.dataset.jury(self.prompt, [action.tokens for action in actions_G])
        rewarded: list[tuple[float, Metrics]] = []
        for action, judged in zip(actions_G, judged_G, strict=True):
            finished = action.stop_reason == "stop"
            penalty = 0.0 if finished else self.dataset.unfinished_penalty
            rewarded.append((judged - penalty, {"judged": judged, "finished": float(finished)}))
        return rewarded


class OneAnswer(Env):
    """A prompt and one answer to it; what it is worth is said elsewhere."""

    def __init__(self, prompt: Sequence[int], stop: StopCondition) -> None:
        self._prompt, self._stop = tinker.ModelInput.from_ints(list(prompt)), stop

    async def initial_observation(self) -> Observation:
        return Observation(self._prompt, self._stop)

    async def step(self, action: list[int], *, extra: ActionExtra | None = None) -> StepResult:
        return StepResult(0.0, True, tinker.ModelInput.empty(), self._stop)
