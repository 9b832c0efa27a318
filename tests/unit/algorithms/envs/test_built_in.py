"""Every environment of our own rewards what it should, and is the same again with the same seed."""

import asyncio

import pytest

from hone.algorithms.envs.built_in import ENVIRONMENTS
from hone.algorithms.envs.check import check, play


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_gold_play_reaches_the_best_return_and_random_play_does_not(name: str) -> None:
    result = asyncio.run(check(ENVIRONMENTS[name].make, episodes=12))
    assert result.problems == []


@pytest.mark.parametrize("name", [name for name in ENVIRONMENTS if name != "memory"])
def test_another_seed_is_another_episode(name: str) -> None:
    async def openings() -> set[str]:
        envs = [ENVIRONMENTS[name].make(seed) for seed in range(8)]
        return {str((await play(env, env.gold_reply)).messages) for env in envs}

    assert len(asyncio.run(openings())) > 1
