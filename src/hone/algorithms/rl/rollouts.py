"""Episodes: one loop for every environment, groups of them, and what happens when some fail.

Legend: `_P` problems, `_G` members of a group.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import tinker

from hone.algorithms.rl.compaction import Compactor, View
from hone.algorithms.rl.config import RolloutConfig
from hone.algorithms.rl.policy import Place, Policy, sample_seed
from hone.algorithms.types import (
    Env,
    EnvGroupBuilder,
    Metrics,
    Observation,
    PromptTooLong,
    RolloutFailure,
    SampledTokens,
    Trajectory,
    TrajectoryGroup,
    Transition,
)
from hone.errors import UserError

T = TypeVar("T")

Limit = Literal["max_turns", "context_overflow"]
NOTHING = SampledTokens([], [], "length")


@dataclass(frozen=True)
class Opening:
    """A first observation that was asked for, and perhaps answered, before its episode began."""

    start: Observation | PromptTooLong
    answer: SampledTokens | None = None


async def run_rollout(
    env: Env,
    policy: Policy,
    place: Place,
    *,
    max_turns: int | None = None,
    compactor: Compactor | None = None,
    opening: Opening | None = None,
) -> Trajectory:
    """One episode: observe, act, step, until the environment says that it is done. If that comes otherwise it is told.

    Why it ended is what the environment says (its metric `stop/<reason>`), else the limit, else that it is completed.

    The tokens that were sampled are the tokens the environment steps on and training learns from. The sample of turn t
    is drawn with the seed of (`place`, t).
    """
    try:
        trajectory, limit = await _episode(env, policy, place, max_turns, compactor, opening)
    except BaseException:
        await env.end("failure")
        raise
    if limit is not None:
        await env.end(limit)
    return trajectory


async def _episode(
    env: Env,
    policy: Policy,
    place: Place,
    max_turns: int | None,
    compactor: Compactor | None,
    opening: Opening | None,
) -> tuple[Trajectory, Limit | None]:
    """The episode, and the limit of the rollout that ended it, if one did."""
    start = opening.start if opening else await env.initial_observation()
    if isinstance(start, PromptTooLong):
        empty = tinker.ModelInput.empty()
        unsampled = Transition(empty, NOTHING, start.reward, start.metrics, start.logs)
        reason = stop_reason(start.metrics) or "context_overflow"
        return Trajectory([unsampled], empty, reason), "context_overflow"
    view = View(compactor)
    observation, stop = start
    transitions: list[Transition] = []
    turns = 0
    while True:
        shown, compacting = await view.of(observation, policy, (*place, turns))
        transitions += compacting
        if policy.room(shown.length) < 1:
            return Trajectory(transitions, shown, "context_overflow"), "context_overflow"
        if opening and opening.answer and turns == 0:
            action = opening.answer
        else:
            action = await policy.act(Observation(shown, stop), sample_seed(*place, turns))
        result = await env.step(action.tokens, extra={"stop_reason": action.stop_reason})
        if not math.isfinite(result.reward):
            raise ValueError(f"the environment gave a reward of {result.reward}")
        transitions.append(Transition(shown, action, result.reward, result.metrics, result.logs))
        turns += 1
        if result.episode_done:
            return Trajectory(transitions, result.next_observation, stop_reason(result.metrics) or "completed"), None
        if turns == max_turns:
            return Trajectory(transitions, result.next_observation, "max_turns"), "max_turns"
        observation, stop = result.next_observation, result.next_stop_condition


def stop_reason(metrics: Metrics) -> str | None:
    """Why an environment says that an episode ended, if it does."""
    prefix = "stop/"
    return next(
        (name.removeprefix(prefix) for name, value in metrics.items() if name.startswith(prefix) and value), None
    )


async def run_group(
    builder: EnvGroupBuilder,
    policy: Policy,
    place: Place,
    config: RolloutConfig,
    compactor: Compactor | None = None,
) -> TrajectoryGroup:
    """All episodes of one problem, side by side, with the rewards of the group.

    An episode that raises is a `RolloutFailure` of the group, which goes on with the others while enough are left
    (`config.tolerated_failures`); else it has no trajectories. What the builder took is given back whatever happens.
    """
    group = TrajectoryGroup([], [], [], tuple(builder.logging_tags()))
    try:
        try:
            group = await _run_group(builder, policy, place, config, compactor, group)
        finally:
            await builder.cleanup()
    except Exception as error:
        # Of making environments, of the group's rewards, or of cleaning up; a group that is complete stays so.
        group = replace(group, failures=(*group.failures, _failure(error)))
    return group


async def run_groups(
    builders_P: Sequence[EnvGroupBuilder],
    policy: Policy,
    place: Place,
    config: RolloutConfig,
    compactor: Compactor | None = None,
) -> list[TrajectoryGroup]:
    """The episodes of a step: all groups side by side, as many requests at once as the policy has slots."""
    groups_P = await asyncio.gather(
        *(run_group(builder, policy, (*place, index), config, compactor) for index, builder in enumerate(builders_P))
    )
    check_lost(groups_P, config)
    return groups_P


async def stream_groups(
    builders_P: Sequence[EnvGroupBuilder],
    policy: Policy,
    place: Place,
    config: RolloutConfig,
    compactor: Compactor | None = None,
    *,
    in_order: bool,
) -> AsyncGenerator[tuple[int, TrajectoryGroup], None]:
    """The same episodes with their index, each group as soon as it is complete; or, `in_order`, as soon as it and all
    before it are. Close it (`contextlib.aclosing`) to end the episodes that are under way."""

    async def numbered(index: int, builder: EnvGroupBuilder) -> tuple[int, TrajectoryGroup]:
        return index, await run_group(builder, policy, (*place, index), config, compactor)

    tasks = [asyncio.create_task(numbered(index, builder)) for index, builder in enumerate(builders_P)]
    try:
        for task in tasks if in_order else asyncio.as_completed(tasks):
            yield await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def check_lost(groups_P: Sequence[TrajectoryGroup], config: RolloutConfig) -> None:
    """Stop a run whose environments do not work.

    Raises:
        UserError: more groups were lost than `config.tolerated_groups` allows.
    """
    lost = [group for group in groups_P if not group.trajectories_G]
    if len(lost) > config.tolerated_groups * len(groups_P):
        first = next((failure for group in lost for failure in group.failures), None)
        reason = f"{first.kind}: {first.message}" if first else "groups without environments"
        raise UserError(
            f"{len(lost)} of {len(groups_P)} groups were lost, and `rollouts.tolerated_groups` is "
            f"{config.tolerated_groups:g}; mend the environment or raise it. The first failure: {reason}"
        )


async def _run_group(
    builder: EnvGroupBuilder,
    policy: Policy,
    place: Place,
    config: RolloutConfig,
    compactor: Compactor | None,
    group: TrajectoryGroup,
) -> TrajectoryGroup:
    envs_G = await builder.make_envs()
    openings_G: Sequence[Opening | RolloutFailure | None] = [None] * len(envs_G)
    if config.shared_prompts:
        openings_G = await _openings(envs_G, policy, place, config, compactor)

    async def attempt(member: int) -> Trajectory | RolloutFailure:
        opening = openings_G[member]
        if isinstance(opening, RolloutFailure):
            await envs_G[member].end("failure")
            return opening
        episode = run_rollout(
            envs_G[member],
            policy,
            (*place, member),
            max_turns=config.max_turns,
            compactor=compactor,
            opening=opening,
        )
        return await _or_failure(episode, config)

    outcomes_G = await asyncio.gather(*(attempt(member) for member in range(len(envs_G))))
    failures = tuple(outcome for outcome in outcomes_G if isinstance(outcome, RolloutFailure))
    finished = [
        (env, outcome)
        for env, outcome in zip(envs_G, outcomes_G, strict=True)
        if not isinstance(outcome, RolloutFailure)
    ]
    group = replace(group, failures=failures)
    if failures and (len(finished) < 2 or len(failures) > config.tolerated_failures * len(envs_G)):
        return group
    trajectories_G = [trajectory for _, trajectory in finished]
    try:
        rewards_G = await builder.compute_group_rewards(trajectories_G, [env for env, _ in finished])
        if len(rewards_G) != len(trajectories_G) or not all(math.isfinite(reward) for reward, _ in rewards_G):
            raise ValueError(f"{len(trajectories_G)} episodes need as many finite group rewards; found {rewards_G}")
    except Exception as error:
        return replace(group, failures=(*failures, _failure(error)))
    return replace(
        group,
        trajectories_G=trajectories_G,
        group_rewards_G=[reward for reward, _ in rewards_G],
        metrics_G=[metrics for _, metrics in rewards_G],
    )


async def _openings(
    envs_G: Sequence[Env], policy: Policy, place: Place, config: RolloutConfig, compactor: Compactor | None
) -> list[Opening | RolloutFailure]:
    """First observations of all members, answered by one request for each different prompt."""
    starts_G = await asyncio.gather(*(_or_failure(env.initial_observation(), config) for env in envs_G))
    openings_G = [start if isinstance(start, RolloutFailure) else Opening(start) for start in starts_G]
    longest = compactor.limit if compactor else math.inf
    asking: dict[str, list[int]] = {}
    for member, start in enumerate(starts_G):
        # A prompt that is too long, or has to be compacted first, is the episode's own affair.
        if isinstance(start, Observation) and policy.room(start.prompt.length) > 0 and start.prompt.length <= longest:
            asking.setdefault(repr(start), []).append(member)

    async def ask(members: Sequence[int]) -> None:
        observation = starts_G[members[0]]
        assert isinstance(observation, Observation)
        request = policy.answers(observation, len(members), sample_seed(*place, members[0], 0))
        answers = await _or_failure(request, config)
        for index, member in enumerate(members):
            openings_G[member] = (
                answers if isinstance(answers, RolloutFailure) else Opening(observation, answers[index])
            )

    await asyncio.gather(*(ask(members) for members in asking.values()))
    return openings_G


async def _or_failure(work: Awaitable[T], config: RolloutConfig) -> T | RolloutFailure:
    try:
        async with asyncio.timeout(config.timeout_seconds) as limit:
            return await work
    except Exception as error:
        if limit.expired():
            return RolloutFailure(type(error).__name__, f"not done after {config.timeout_seconds} s")
        return _failure(error)


def _failure(error: Exception) -> RolloutFailure:
    return RolloutFailure(type(error).__name__, str(error)[:1000])
