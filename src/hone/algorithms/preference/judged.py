"""Reinforcement learning where the answers to a prompt are judged together: by a reward model, or compared in pairs.

Legend: `_P` prompts, `_G` answers to one of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import tinker

from hone.algorithms.graders.grade import Task
from hone.algorithms.graders.pairwise import Pairwise, tournament
from hone.algorithms.messages import Message, text_of
from hone.algorithms.preference.reward_model import RewardModel
from hone.algorithms.renderers import Renderer
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


class Jury(Protocol):
    """Rewards, with metrics, of all answers to one prompt; answers are in tokens."""

    async def __call__(self, answers_G: Sequence[Sequence[int]]) -> list[tuple[float, Metrics]]: ...


@dataclass(frozen=True)
class ByRewardModel:
    """Each answer on its own, by a trained reward model."""

    model: RewardModel
    prompt: Sequence[int]

    async def __call__(self, answers_G: Sequence[Sequence[int]]) -> list[tuple[float, Metrics]]:
        rewards_G = await asyncio.gather(*(self.model.reward(self.prompt, answer) for answer in answers_G))
        return [(reward, {}) for reward in rewards_G]


@dataclass(frozen=True)
class ByComparison:
    """Every answer meets every other before a judge; the reward is its mean result, from -1 to 1."""

    pairwise: Pairwise
    task: Task
    renderer: Renderer

    async def __call__(self, answers_G: Sequence[Sequence[int]]) -> list[tuple[float, Metrics]]:
        if len(answers_G) < 2:
            raise UserError("answers are compared with each other: `group_size` must be 2 or more")
        texts_G = [text_of(self.renderer.parse_response(answer)[0]) for answer in answers_G]
        return await tournament(self.pairwise, self.task, texts_G)


@dataclass(frozen=True)
class JudgedPrompt:
    tokens: Sequence[int]
    jury: Jury


def rewarded(prompts_P: Sequence[Sequence[int]], model: RewardModel) -> list[JudgedPrompt]:
    """Prompts, in tokens, whose answers a reward model rewards."""
    return [JudgedPrompt(prompt, ByRewardModel(model, prompt)) for prompt in prompts_P]


def compared(
    tasks_P: Sequence[Task], pairwise: Pairwise, renderer: Renderer, before: Sequence[Message] = ()
) -> list[JudgedPrompt]:
    """Questions whose answers a judge compares; `before` stands before each: a system prompt, examples."""

    def prompt(task: Task) -> list[int]:
        asked: Message = {"role": "user", "content": task.question}
        return renderer.build_generation_prompt([*before, asked]).to_ints()

    return [JudgedPrompt(prompt(task), ByComparison(pairwise, task, renderer)) for task in tasks_P]


@dataclass(frozen=True)
class JudgedPrompts:
    """An `RLDataset` of prompts, in their order, each with who judges its answers."""

    prompts_P: Sequence[JudgedPrompt]
    stop: StopCondition
    group_size: int
    batch_size: int
    unfinished_penalty: float = 1.0
    """Taken from the reward of an answer that was cut off before it ended."""

    def __len__(self) -> int:
        return -(-len(self.prompts_P) // self.batch_size)

    def get_batch(self, index: int) -> Sequence[EnvGroupBuilder]:
        first = index * self.batch_size
        return [JudgedGroup(prompt, self) for prompt in self.prompts_P[first : first + self.batch_size]]


@dataclass(frozen=True)
class JudgedGroup(EnvGroupBuilder):
    prompt: JudgedPrompt
    dataset: JudgedPrompts

    async def make_envs(self) -> Sequence[Env]:
        return [OneAnswer(self.prompt.tokens, self.dataset.stop) for _ in range(self.dataset.group_size)]

    async def compute_group_rewards(
        self, trajectory_group: list[Trajectory], env_group: Sequence[Env]
    ) -> list[tuple[float, Metrics]]:
        if not all(trajectory.transitions for trajectory in trajectory_group):
            # A prompt that leaves no room for an answer: the same for all members, and nothing to judge.
            return [(-self.dataset.unfinished_penalty, {"judged": 0.0, "finished": 0.0}) for _ in trajectory_group]
        actions_G = [trajectory.transitions[0].action for trajectory in trajectory_group]
        judged_G = await self.prompt.jury([action.tokens for action in actions_G])
        rewarded_G: list[tuple[float, Metrics]] = []
        for action, (judged, metrics) in zip(actions_G, judged_G, strict=True):
            finished = action.stop_reason == "stop"
            penalty = 0.0 if finished else self.dataset.unfinished_penalty
            rewarded_G.append((judged - penalty, {**metrics, "judged": judged, "finished": float(finished)}))
        return rewarded_G


class OneAnswer(Env):
    """A prompt and one answer to it; what it is worth is said elsewhere."""

    def __init__(self, prompt: Sequence[int], stop: StopCondition) -> None:
        self._prompt, self._stop = tinker.ModelInput.from_ints(list(prompt)), stop

    async def initial_observation(self) -> Observation:
        return Observation(self._prompt, self._stop)

    async def step(self, action: list[int], *, extra: ActionExtra | None = None) -> StepResult:
        return StepResult(0.0, True, tinker.ModelInput.empty(), self._stop)
