"""Does an environment reward what it should? Gold play has to reach the best return, and random play must not."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from hone.algorithms.envs.message_env import Checkable
from hone.algorithms.messages import Message

LONGEST_EPISODE = 200
"""Turns after which an episode is taken to be endless."""
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Episode:
    total: float
    ended: bool
    messages: list[Message]
    rewards: list[float]


@dataclass(frozen=True)
class CheckResult:
    episodes: int
    gold_return: float
    """Mean over the episodes; so are the next two."""
    best_return: float
    random_return: float
    problems: list[str]

    @property
    def passed(self) -> bool:
        return not self.problems


async def play(env: Checkable, reply: Callable[[], Awaitable[Message]]) -> Episode:
    messages = await env.initial_observation()
    rewards: list[float] = []
    for _ in range(LONGEST_EPISODE):
        step = await env.step(await reply())
        rewards.append(step.reward)
        messages = step.next_messages
        if step.episode_done:
            return Episode(sum(rewards), True, messages, rewards)
    return Episode(sum(rewards), False, messages, rewards)


async def check(make: Callable[[int], Checkable], episodes: int = 20) -> CheckResult:
    """Play the episodes of seeds 0, 1, ... by gold (twice) and at random."""
    gold, best, chance, problems = 0.0, 0.0, 0.0, []
    for seed in range(episodes):
        first, again, guessed = make(seed), make(seed), make(seed)
        played, repeated = await play(first, first.gold_reply), await play(again, again.gold_reply)
        blind = await play(guessed, _randomly(guessed, random.Random(f"check/{seed}")))
        if not (played.ended and blind.ended):
            problems.append(f"seed {seed}: no end after {LONGEST_EPISODE} turns")
        if abs(played.total - first.best_return) > TOLERANCE:
            problems.append(f"seed {seed}: gold play reached {played.total:g}, and the best is {first.best_return:g}")
        if played != repeated:
            problems.append(f"seed {seed}: played the same way twice, it went two ways")
        gold, best, chance = gold + played.total, best + first.best_return, chance + blind.total
    gold, best, chance = gold / episodes, best / episodes, chance / episodes
    if chance > best - 0.1:
        problems.append(f"random play reached {chance:g} on average, and the best is {best:g}")
    return CheckResult(episodes, gold, best, chance, problems)


def _randomly(env: Checkable, rng: random.Random) -> Callable[[], Awaitable[Message]]:
    async def reply() -> Message:
        return env.random_reply(rng)

    return reply
