"""Environments in the loop of reinforcement learning, with a sampler that reads the prompt instead of a model."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import tinker

from hone.algorithms.envs.built_in import ENVIRONMENTS
from hone.algorithms.envs.datasets import EpisodeDataset
from hone.algorithms.envs.games import SelfPlay
from hone.algorithms.envs.tic_tac_toe import TicTacToe
from hone.algorithms.rl.config import RolloutConfig
from hone.algorithms.rl.metrics import episode_metrics
from hone.algorithms.rl.policy import Policy
from hone.algorithms.rl.rollouts import run_group, run_groups
from hone.algorithms.types import TrajectoryGroup
from tests.support.chatml import END, ByteChatMl

RENDERER = ByteChatMl()


class Reader:
    """Answers with what a function makes of the last message."""

    def __init__(self, answer: Callable[[str], str]) -> None:
        self.answer = answer

    async def sample(self, prompt: tinker.ModelInput, count: int, params: tinker.SamplingParams) -> Any:
        text = bytes(token for token in prompt.to_ints() if token < 256).decode()
        tokens = [*self.answer(text.rsplit("user\n", 1)[1]).encode(), END]
        one = SimpleNamespace(tokens=tokens, logprobs=[-1.0] * len(tokens), stop_reason="stop", sequence_id=None)
        return SimpleNamespace(sequences=[one] * count, prompt_cache_hit_tokens=0)


def policy(answer: Callable[[str], str]) -> Policy:
    sampler: Any = Reader(answer)
    return Policy(sampler, max_tokens=8)


def first_free_square(board: str) -> str:
    found = re.findall(r"(?<![\d])[1-9](?![\d])", board.split("assistant")[0])
    return found[0]


def test_self_play_runs_in_the_loop() -> None:
    async def run() -> TrajectoryGroup:
        match = SelfPlay(TicTacToe, RENDERER, ("tic_tac_toe",), turn_timeout_seconds=20)
        return await run_group(match, policy(first_free_square), (0,), RolloutConfig())

    group = asyncio.run(run())
    assert group.failures == ()
    # Squares in their order: X has 1, 3, 5, 7 and with it a diagonal.
    assert group.total_rewards_G() == [1.0, -1.0]
    assert [len(trajectory.transitions) for trajectory in group.trajectories_G] == [4, 3]


def ended_at_once(match: SelfPlay, player: Policy, config: RolloutConfig) -> TrajectoryGroup:
    """The group, which has to be complete long before a player would give up waiting."""

    async def run() -> TrajectoryGroup:
        async with asyncio.timeout(10):
            return await run_group(match, player, (0,), config)

    return asyncio.run(run())


@pytest.mark.parametrize("limits", [RolloutConfig(max_turns=2), RolloutConfig(context_limit=150)])
def test_a_match_that_a_limit_of_the_rollouts_ends_is_a_draw_for_all(limits: RolloutConfig) -> None:
    player = replace(policy(first_free_square), context_limit=limits.context_limit)
    group = ended_at_once(SelfPlay(TicTacToe, RENDERER), player, limits)
    assert group.failures == ()
    assert group.total_rewards_G() == [0.0, 0.0]
    first, second = group.trajectories_G
    assert first.stop_reason == ("max_turns" if limits.max_turns else "context_overflow")
    assert 1 <= len(second.transitions) <= len(first.transitions)


def test_a_player_who_is_cut_off_in_a_word_loses_at_once() -> None:
    async def answer(prompt: tinker.ModelInput, count: int, params: tinker.SamplingParams) -> Any:
        response = await Reader(first_free_square).sample(prompt, count, params)
        if prompt.to_ints().count(END) == 3:  # the second move of the first player
            response.sequences[0].stop_reason = "length"
        return response

    sampler: Any = SimpleNamespace(sample=answer)
    group = ended_at_once(SelfPlay(TicTacToe, RENDERER), Policy(sampler, max_tokens=8), RolloutConfig())
    assert group.failures == ()
    assert group.total_rewards_G() == [-1.0, 1.0]


def test_a_match_of_which_a_player_fails_is_lost_at_once() -> None:
    def fail(board: str) -> str:
        if "You are O" in board:
            raise ConnectionError("the service is gone")
        return first_free_square(board)

    group = ended_at_once(SelfPlay(TicTacToe, RENDERER), policy(fail), RolloutConfig())
    assert group.trajectories_G == []
    assert [failure.kind for failure in group.failures] == ["MatchAbandoned", "ConnectionError"]


def test_problems_run_in_the_loop() -> None:
    def subtract(question: str) -> str:
        numbers = [int(number) for number in re.findall(r"\d+", question)]
        return str(max(numbers) - min(numbers))

    async def run() -> list[TrajectoryGroup]:
        make = ENVIRONMENTS["subtract_two_digit"].make
        dataset = EpisodeDataset(make, RENDERER, batches=1, batch_size=3, group_size=2, tags=("subtract",))
        return await run_groups(dataset.get_batch(0), policy(subtract), (0,), RolloutConfig(shared_prompts=True))

    groups = asyncio.run(run())
    assert [group.total_rewards_G() for group in groups] == [[1.0, 1.0]] * 3
    assert groups[0].tags == ("subtract",)


def test_why_an_episode_ended_is_what_its_environment_says() -> None:
    """An answer without an end is no completed episode, and the shares of all reasons add up to 1."""

    async def answer(prompt: tinker.ModelInput, count: int, params: tinker.SamplingParams) -> Any:
        response = await Reader(lambda question: "1").sample(prompt, count, params)
        first, *others = response.sequences
        response.sequences = [SimpleNamespace(**vars(first) | {"stop_reason": "length"}), *others]
        return response

    async def run() -> TrajectoryGroup:
        make = ENVIRONMENTS["subtract_two_digit"].make
        (builder,) = EpisodeDataset(make, RENDERER, batches=1, batch_size=1, group_size=4).get_batch(0)
        sampler: Any = SimpleNamespace(sample=answer)
        return await run_group(builder, Policy(sampler, max_tokens=8), (0,), RolloutConfig(shared_prompts=True))

    group = asyncio.run(run())
    assert [trajectory.stop_reason for trajectory in group.trajectories_G] == ["max_tokens", *["completed"] * 3]
    found = episode_metrics([group])
    ends = {name: share for name, share in found.items() if name.startswith("env/all/stop/")}
    assert ends == {"env/all/stop/completed": 0.75, "env/all/stop/max_tokens": 0.25}
