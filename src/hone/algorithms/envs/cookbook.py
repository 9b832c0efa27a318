"""Environments of `tinker-cookbook` in our loops, and ours in its loops.

The shapes are the same but for a few names, so the adapters are thin. Nothing of the cookbook is imported until one
of ours is handed to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hone.algorithms.types import (
    ActionExtra,
    Env,
    EnvGroupBuilder,
    Metrics,
    Observation,
    PromptTooLong,
    SampledTokens,
    StepResult,
    Trajectory,
    Transition,
)


class FromCookbook(Env):
    """A `tinker_cookbook.rl.types.Env` as one of ours."""

    def __init__(self, env: Any) -> None:
        self.env = env

    async def initial_observation(self) -> Observation | PromptTooLong:
        found = await self.env.initial_observation()
        if isinstance(found, tuple):
            return Observation(*found)
        return PromptTooLong(found.reward, dict(found.metrics), dict(found.logs))

    async def step(self, action: list[int], *, extra: ActionExtra | None = None) -> StepResult:
        step = await self.env.step(action, extra=extra)
        return StepResult(
            step.reward,
            step.episode_done,
            step.next_observation,
            step.next_stop_condition,
            dict(step.metrics),
            dict(step.logs),
        )


class ToCookbook:
    """One of our environments where the cookbook expects one of its own; see `to_cookbook`."""

    def __init__(self, env: Env) -> None:
        self.env = env

    async def initial_observation(self) -> Any:
        from tinker_cookbook.rl.types import InitialObservationOverflow

        found = await self.env.initial_observation()
        if isinstance(found, PromptTooLong):
            return InitialObservationOverflow(found.reward, found.metrics, found.logs)
        return tuple(found)

    async def step(self, action: list[int], *, extra: ActionExtra | None = None) -> Any:
        from tinker_cookbook.rl.types import StepResult as TheirStepResult

        step = await self.env.step(action, extra=extra)
        return TheirStepResult(**vars(step))


class BuilderFromCookbook(EnvGroupBuilder):
    """A `tinker_cookbook.rl.types.EnvGroupBuilder` as one of ours."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    async def make_envs(self) -> Sequence[Env]:
        return [FromCookbook(env) for env in await self.builder.make_envs()]

    async def compute_group_rewards(
        self, trajectory_group: list[Trajectory], env_group: Sequence[Env]
    ) -> list[tuple[float, Metrics]]:
        theirs = [env.env for env in env_group if isinstance(env, FromCookbook)]
        rewards = await self.builder.compute_group_rewards(list(map(_their_trajectory, trajectory_group)), theirs)
        return [(float(reward), dict(metrics)) for reward, metrics in rewards]

    async def cleanup(self) -> None:
        await self.builder.cleanup()

    def logging_tags(self) -> list[str]:
        return list(self.builder.logging_tags())


class BuilderToCookbook:
    """One of our builders where the cookbook expects one of its own; see `to_cookbook`."""

    def __init__(self, builder: EnvGroupBuilder) -> None:
        self.builder = builder

    async def make_envs(self) -> Sequence[Any]:
        return [to_cookbook(env) for env in await self.builder.make_envs()]

    async def compute_group_rewards(
        self, trajectory_group: list[Any], env_group: Sequence[Any]
    ) -> list[tuple[float, Metrics]]:
        ours = [env.env for env in env_group]
        return await self.builder.compute_group_rewards(list(map(_our_trajectory, trajectory_group)), ours)

    async def cleanup(self) -> None:
        await self.builder.cleanup()

    def logging_tags(self) -> list[str]:
        return self.builder.logging_tags()


def to_cookbook(ours: Env | EnvGroupBuilder) -> Any:
    """An environment or a builder of ours, as the cookbook's loops take them; `isinstance` there says so too."""
    from tinker_cookbook.rl import types as theirs

    if isinstance(ours, Env):
        theirs.Env.register(ToCookbook)
        return ToCookbook(ours)
    theirs.EnvGroupBuilder.register(BuilderToCookbook)
    return BuilderToCookbook(ours)


def _their_trajectory(ours: Trajectory) -> Any:
    from tinker_cookbook.completers import TokensWithLogprobs
    from tinker_cookbook.rl import types as theirs

    last = len(ours.transitions) - 1
    transitions = [
        theirs.Transition(
            ob=transition.observation,
            ac=TokensWithLogprobs(
                transition.action.tokens,
                transition.action.logprobs,
                transition.action.stop_reason,
                transition.action.sequence_id,
                transition.action.prompt_cache_hit_tokens,
            ),
            reward=transition.reward,
            episode_done=place == last,
            metrics=transition.metrics,
            logs=transition.logs,
        )
        for place, transition in enumerate(ours.transitions)
    ]
    return theirs.Trajectory(transitions, ours.final_observation, ours.stop_reason)


def _our_trajectory(theirs: Any) -> Trajectory:
    transitions = [
        Transition(
            transition.ob,
            SampledTokens(
                transition.ac.tokens,
                transition.ac.logprobs,
                transition.ac.stop_reason,
                transition.ac.sequence_id,
                transition.ac.prompt_cache_hit_tokens,
            ),
            transition.reward,
            transition.metrics,
            transition.logs,
        )
        for transition in theirs.transitions
    ]
    return Trajectory(transitions, theirs.final_ob, theirs.stop_reason)
