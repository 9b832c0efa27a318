"""Rewards of a group of answers, by juries whose verdicts are known."""

import asyncio
from collections.abc import Sequence

import pytest
import tinker

from hone.algorithms.preference.judged import JudgedPrompts, Tournament
from hone.algorithms.types import SampledTokens, Trajectory, Transition
from hone.errors import UserError


async def longer_is_better(prompt: Sequence[int], a: Sequence[int], b: Sequence[int]) -> float:
    return float((len(b) > len(a)) - (len(b) < len(a)))


async def likes_the_second_place(prompt: Sequence[int], a: Sequence[int], b: Sequence[int]) -> float:
    return 1.0


def test_the_best_answer_wins_all_its_matches_and_the_worst_none() -> None:
    rewards = asyncio.run(Tournament(longer_is_better)([1], [[1, 2, 3], [1], [1, 2]]))
    assert rewards == [1.0, -1.0, 0.0]


def test_a_judge_who_favours_a_place_favours_nobody() -> None:
    assert asyncio.run(Tournament(likes_the_second_place)([1], [[1], [2], [3]])) == [0.0, 0.0, 0.0]


def test_one_answer_alone_cannot_be_compared() -> None:
    with pytest.raises(UserError, match="`group_size` must be 2 or more"):
        asyncio.run(Tournament(longer_is_better)([1], [[1]]))


def test_a_group_is_rewarded_together_and_unfinished_answers_pay() -> None:
    dataset = JudgedPrompts([[1, 2], [3], [4]], Tournament(longer_is_better), [0], group_size=2, batch_size=2)
    assert len(dataset) == 2
    (builder,) = dataset.get_batch(1)

    def trajectory(tokens: list[int], stop_reason: str) -> Trajectory:
        action = SampledTokens(tokens, [0.0] * len(tokens), stop_reason)  # type: ignore[arg-type]
        return Trajectory([Transition(tinker.ModelInput.from_ints([4]), action, 0.0)], tinker.ModelInput.empty())

    async def rewards() -> list[tuple[float, dict[str, float | int]]]:
        envs = await builder.make_envs()
        observation = await envs[0].initial_observation()
        assert observation.prompt.to_ints() == [4]  # type: ignore[union-attr]
        assert (await envs[0].step([5])).episode_done
        return await builder.compute_group_rewards([trajectory([5, 6], "length"), trajectory([7], "stop")], envs)

    assert asyncio.run(rewards()) == [
        (0.0, {"judged": 1.0, "finished": 0.0}),
        (-1.0, {"judged": -1.0, "finished": 1.0}),
    ]


def test_a_prompt_without_room_for_an_answer_costs_its_members_alone() -> None:
    dataset = JudgedPrompts([[1, 2]], Tournament(longer_is_better), [0], group_size=2, batch_size=1)
    (builder,) = dataset.get_batch(0)
    empty = Trajectory([], tinker.ModelInput.from_ints([1, 2]), "context_overflow")
    rewards = asyncio.run(builder.compute_group_rewards([empty, empty], []))
    assert [reward for reward, _ in rewards] == [-1.0, -1.0]
