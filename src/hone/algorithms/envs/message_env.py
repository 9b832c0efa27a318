"""Environments that speak messages, and the step from there to tokens.

The shapes are those of `tinker-cookbook`'s `MessageEnv`, so that one written for either runs in both.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import tinker

from hone.algorithms.messages import Message, ToolSpec
from hone.algorithms.renderers import Renderer
from hone.algorithms.types import (
    ActionExtra,
    EndedBy,
    Env,
    EnvGroupBuilder,
    Logs,
    Metrics,
    Observation,
    PromptTooLong,
    StepResult,
    StopCondition,
)

CutOff = Literal["max_tokens", "parse_error", "context_overflow"]
"""Why an answer, or the room for one, was cut off."""


@dataclass
class MessageStep:
    """What a message led to."""

    reward: float
    episode_done: bool
    next_messages: list[Message]
    """The whole conversation so far."""
    metrics: Metrics = field(default_factory=dict)
    logs: Logs = field(default_factory=dict)
    next_stop_condition: StopCondition | None = None


class MessageEnv(ABC):
    """One episode of one agent, in messages."""

    tools: Sequence[ToolSpec] = ()
    """What the agent may call; the renderer writes them into the prompt."""

    @abstractmethod
    async def initial_observation(self) -> list[Message]: ...

    @abstractmethod
    async def step(self, message: Message) -> MessageStep: ...

    async def cut_off(self, message: Message, why: CutOff) -> MessageStep | None:
        """The episode ends because an answer did not end, or none fits; None leaves the reward to the caller.

        `message` is what was readable of the last answer.
        """
        return None

    async def end(self, by: EndedBy) -> None:  # noqa: B027
        """As `Env.end`: a limit of the rollout, or a failure, ends the episode."""


@dataclass
class Turn:
    """An environment's reply."""

    messages: list[Message] = field(default_factory=list)
    reward: float = 0.0
    done: bool = False
    metrics: Metrics = field(default_factory=dict)
    logs: Logs = field(default_factory=dict)


class Dialogue(MessageEnv):
    """Keeps the conversation: what remains is how it opens and what is replied."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    @abstractmethod
    def opening(self) -> list[Message]: ...

    @abstractmethod
    async def respond(self, message: Message) -> Turn: ...

    async def initial_observation(self) -> list[Message]:
        self.messages = self.opening()
        return list(self.messages)

    async def step(self, message: Message) -> MessageStep:
        self.messages.append(message)
        turn = await self.respond(message)
        self.messages += turn.messages
        return MessageStep(turn.reward, turn.done, list(self.messages), turn.metrics, turn.logs)


class Checkable(MessageEnv):
    """An environment that can show that it can be won, and not by chance: see `check.py`."""

    best_return: float = 1.0
    """The highest sum of rewards that an episode can bring for certain."""

    @abstractmethod
    async def gold_reply(self) -> Message:
        """The next message of a player who plays as well as possible."""

    @abstractmethod
    def random_reply(self, rng: random.Random) -> Message:
        """A well-formed message of a player who knows the form of an answer and nothing else."""


def said(text: str) -> Message:
    return {"role": "assistant", "content": text}


def asked(text: str) -> Message:
    return {"role": "user", "content": text}


def stopped(reason: str) -> Metrics:
    """The metric that says why an episode ended; see `types.STOP_REASONS`."""
    return {f"stop/{reason}": 1.0}


@dataclass(frozen=True)
class TokenLimits:
    """Bounds of an episode, and what passing them costs. The rewards are those of `tinker-cookbook`."""

    max_trajectory_tokens: int | None = None
    """Prompt and answers together."""
    max_generation_tokens: int = 0
    """Room that has to be left for the next answer."""
    failed_parse_reward: float = -1.0
    """For an answer that did not end as the format wants."""
    overflow_reward: float = -0.1
    """For an answer that was cut off at its length, or a conversation without room for another."""


class TokenEnv(Env):
    """A `MessageEnv` in tokens. What was sampled is kept as it was sampled, wherever the format allows.

    Rendering a parsed answer again may give other tokens; the next prompt would then not extend what was sampled, and
    one episode would be trained as several sequences. With a renderer that `has_extension_property` and stops at
    tokens, the next prompt is the last one, the sampled tokens, and what the rendering has after the answer.
    """

    def __init__(self, renderer: Renderer, env: MessageEnv, limits: TokenLimits | None = None) -> None:
        self.renderer, self.env, self.limits = renderer, env, limits or TokenLimits()
        self._stop: StopCondition = renderer.get_stop_sequences()
        self._prompt = tinker.ModelInput.empty()

    async def initial_observation(self) -> Observation | PromptTooLong:
        messages = await self.env.initial_observation()
        self._prompt = self._render(messages)
        if self._is_too_long(self._prompt):
            problem = (
                f"the first prompt has {self._prompt.length} tokens; with {self.limits.max_generation_tokens} for an "
                f"answer that is more than max_trajectory_tokens={self.limits.max_trajectory_tokens}"
            )
            return PromptTooLong(self.limits.overflow_reward, stopped("max_tokens"), {"prompt_too_long": problem})
        return Observation(self._prompt, self._stop)

    async def step(self, action: list[int], *, extra: ActionExtra | None = None) -> StepResult:
        message, termination = self.renderer.parse_response(action, tools=self.env.tools)
        if (extra or {}).get("stop_reason") == "length":
            return await self._cut_off(message, "max_tokens", self.limits.overflow_reward)
        if not termination.is_clean:
            return await self._cut_off(message, "parse_error", self.limits.failed_parse_reward)
        step = await self.env.step(message)
        if step.episode_done:
            return self._ended(step.reward, step.metrics, step.logs)
        self._prompt = self._continued(action, step.next_messages)
        if self._is_too_long(self._prompt):
            ended = await self._cut_off(message, "context_overflow", self.limits.overflow_reward)
            ended.reward += step.reward
            ended.metrics = step.metrics | ended.metrics
            return ended
        stop = self._stop if step.next_stop_condition is None else step.next_stop_condition
        return StepResult(step.reward, False, self._prompt, stop, step.metrics, step.logs)

    async def end(self, by: EndedBy) -> None:
        await self.env.end(by)

    async def _cut_off(self, message: Message, why: CutOff, reward: float) -> StepResult:
        step = await self.env.cut_off(message, why)
        metrics = stopped(why) | ({"parse_error": 1.0} if why == "parse_error" else {})
        if step is None:
            return self._ended(reward, metrics, {})
        return self._ended(step.reward, metrics | step.metrics, step.logs)

    def _ended(self, reward: float, metrics: Metrics, logs: Logs) -> StepResult:
        return StepResult(reward, True, tinker.ModelInput.empty(), self._stop, metrics, logs)

    def _render(self, messages: list[Message]) -> tinker.ModelInput:
        return self.renderer.build_generation_prompt(messages, tools=self.env.tools)

    def _continued(self, action: list[int], messages: list[Message]) -> tinker.ModelInput:
        rendered = self._render(messages)
        before, after = _ints(self._prompt), _ints(rendered)
        if not self.renderer.has_extension_property or before is None or after is None:
            return rendered
        stops = {stop for stop in self._stop if isinstance(stop, int)}
        # Text never becomes a stop token, so the first one after the old prompt is the end of the answer.
        ends = [place for place in range(len(before), len(after)) if after[place] in stops]
        if not ends or action[-1] not in stops or after[: len(before)] != before:
            return rendered
        return tinker.ModelInput.from_ints(before + action + after[ends[0] + 1 :])

    def _is_too_long(self, prompt: tinker.ModelInput) -> bool:
        longest = self.limits.max_trajectory_tokens
        return longest is not None and prompt.length + self.limits.max_generation_tokens > longest


@dataclass(frozen=True)
class GroupBuilder(EnvGroupBuilder):
    """G attempts of one episode: every member starts from the same state."""

    make: Callable[[], MessageEnv]
    renderer: Renderer
    group_size: int
    tags: tuple[str, ...] = ()
    limits: TokenLimits = field(default_factory=TokenLimits)

    async def make_envs(self) -> Sequence[Env]:
        return [TokenEnv(self.renderer, self.make(), self.limits) for _ in range(self.group_size)]

    def logging_tags(self) -> list[str]:
        return list(self.tags)


def _ints(sequence: tinker.ModelInput) -> list[int] | None:
    """The tokens; None with an image among them."""
    if all(isinstance(chunk, tinker.EncodedTextChunk) for chunk in sequence.chunks):
        return sequence.to_ints()
    return None
