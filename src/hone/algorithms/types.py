"""What flows between environments, rollouts and training. Legend: `_P` problems, `_G` members of a group, `_T` tokens.

The shapes are those of `tinker-cookbook`'s environments, so that one written for either runs in both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, TypedDict

import tinker

Metrics = dict[str, float | int]
"""Numbers that are averaged over trajectories."""
Logs = dict[str, str | int | float]
"""Facts for people who read a rollout; never averaged."""
StopCondition = list[str] | list[int]
"""What ends an answer: texts, or token ids."""


@dataclass(frozen=True)
class SampledTokens:
    """What the model said, and how likely it was when it said it."""

    tokens: list[int]
    logprobs: list[float]
    stop_reason: Literal["stop", "length"]
    sequence_id: str | None = None
    """The server's name of the sequence; training data may refer to it."""
    prompt_cache_hit_tokens: int = 0


class Observation(NamedTuple):
    """What the model sees next, and what will end its answer."""

    prompt: tinker.ModelInput
    stop: StopCondition


class ActionExtra(TypedDict, total=False):
    """What is known of an action beside its tokens."""

    stop_reason: Literal["stop", "length"]


@dataclass
class StepResult:
    """What an action led to."""

    reward: float
    episode_done: bool
    next_observation: tinker.ModelInput
    next_stop_condition: StopCondition
    metrics: Metrics = field(default_factory=dict)
    logs: Logs = field(default_factory=dict)


@dataclass(frozen=True)
class PromptTooLong:
    """Returned in place of a first observation that exceeds the environment's budget: the episode ends unsampled."""

    reward: float
    metrics: Metrics = field(default_factory=dict)
    logs: Logs = field(default_factory=dict)


EndedBy = Literal["max_turns", "context_overflow", "failure"]
"""Why an episode ends that its environment would have gone on with: a limit of the rollout, or an exception."""


class Env(ABC):
    """One episode of one agent: made, run once, thrown away. It speaks tokens, so nothing is tokenised twice."""

    @abstractmethod
    async def initial_observation(self) -> Observation | PromptTooLong: ...

    @abstractmethod
    async def step(self, action: list[int], *, extra: ActionExtra | None = None) -> StepResult: ...

    async def end(self, by: EndedBy) -> None:  # noqa: B027 - most episodes concern nobody else
        """The rollout ends the episode, and nothing more is asked of it: whoever waits for its next action need not.

        `tinker-cookbook` has no such call: its environments are not told, and its loops do not tell ours.
        """


@dataclass(frozen=True)
class Transition:
    observation: tinker.ModelInput
    action: SampledTokens
    reward: float
    metrics: Metrics = field(default_factory=dict)
    logs: Logs = field(default_factory=dict)


@dataclass(frozen=True)
class Trajectory:
    """A whole episode."""

    transitions: list[Transition]
    final_observation: tinker.ModelInput
    stop_reason: str | None = None
    """Why it ended, where that is known: one of `STOP_REASONS`."""


STOP_REASONS = (
    "completed",
    "tool_stopped",
    "max_turns",
    "max_tokens",
    "max_tool_calls",
    "context_overflow",
    "parse_error",
    "rollout_timeout",
)


@dataclass(frozen=True)
class RolloutFailure:
    """A rollout that ended by an exception. It is data: the others of its group go on."""

    kind: str
    message: str


@dataclass(frozen=True)
class TrajectoryGroup:
    """The episodes of one problem. Rewards of the group come on top of those of the steps."""

    trajectories_G: list[Trajectory]
    group_rewards_G: list[float]
    metrics_G: list[Metrics]
    tags: tuple[str, ...] = ()
    failures: tuple[RolloutFailure, ...] = ()

    def total_rewards_G(self) -> list[float]:
        return [
            sum(transition.reward for transition in trajectory.transitions) + group_reward
            for trajectory, group_reward in zip(self.trajectories_G, self.group_rewards_G, strict=True)
        ]


class EnvGroupBuilder(ABC):
    """Makes the environments of one problem: G attempts at it, or G players of one game."""

    @abstractmethod
    async def make_envs(self) -> Sequence[Env]: ...

    async def compute_group_rewards(
        self, trajectory_group: list[Trajectory], env_group: Sequence[Env]
    ) -> list[tuple[float, Metrics]]:
        """Rewards that need the whole group, such as pairwise comparisons; added to those of the steps."""
        return [(0.0, {}) for _ in trajectory_group]

    async def cleanup(self) -> None:  # noqa: B027 - most groups take nothing
        """Gives back what `make_envs` took; called whatever happened, perhaps twice."""

    def logging_tags(self) -> list[str]:
        """Names under which this problem's metrics are averaged on their own."""
        return []


class RLDataset(Protocol):
    """Problems in batches. The same index gives the same problems, so a run can go on where it stopped."""

    def get_batch(self, index: int) -> Sequence[EnvGroupBuilder]: ...

    def __len__(self) -> int: ...
