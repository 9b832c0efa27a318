"""Rewards of a group of answers, by juries whose verdicts are known."""

import asyncio
from collections.abc import Sequence

import pytest
import tinker

from hone.algorithms.graders.grade import Task
from hone.algorithms.graders.pairwise import Pairwise
from hone.algorithms.messages import Message
from hone.algorithms.preference.judged import JudgedPrompts, compared, rewarded
from hone.algorithms.preference.reward_model import RewardHead, RewardModel
from hone.algorithms.types import Metrics, SampledTokens, Trajectory, Transition
from hone.errors import UserError
from tests.support.chatml import END, START, ByteChatMl
from tests.support.fake_tinker import MODEL, FakeService
from tests.support.under_way import UnderWay

RENDERER = ByteChatMl()
TASKS = [Task(f"Say {word}.", facts={"rubric": "Longer is better."}) for word in ("one", "two", "three")]


class Longer:
    """Prefers the longer answer."""

    async def __call__(self, messages: Sequence[Message], *, seed: int) -> str:
        text = str(messages[-1]["content"])
        first, second = (text.split(f"<answer_{name}>")[1].split("</answer")[0] for name in "ab")
        return "Verdict: " + ("Tie" if len(first) == len(second) else "A" if len(first) > len(second) else "B")


def trajectory(text: str, stop_reason: str = "stop") -> Trajectory:
    tokens = [*text.encode(), END] if stop_reason == "stop" else [*text.encode()]
    action = SampledTokens(tokens, [0.0] * len(tokens), stop_reason)  # type: ignore[arg-type]
    return Trajectory([Transition(tinker.ModelInput.from_ints([4]), action, 0.0)], tinker.ModelInput.empty())


def dataset(group_size: int = 3) -> JudgedPrompts:
    return JudgedPrompts(compared(TASKS, Pairwise(Longer()), RENDERER), [END], group_size, batch_size=2)


def rewards(*trajectories: Trajectory, data: JudgedPrompts | None = None) -> list[tuple[float, Metrics]]:
    async def run() -> list[tuple[float, Metrics]]:
        builder = (data or dataset()).get_batch(0)[0]
        return await builder.compute_group_rewards(list(trajectories), await builder.make_envs())

    return asyncio.run(run())


def test_prompts_come_in_their_order_and_take_one_answer() -> None:
    data = dataset()
    assert len(data) == 2
    (builder,) = data.get_batch(1)

    async def run() -> None:
        first, *others = await builder.make_envs()
        assert len(others) == 2
        observation = await first.initial_observation()
        assert observation.prompt.to_ints() == [START, *b"user\nSay three.", END, 10, START, *b"assistant\n"]  # type: ignore[union-attr]
        assert (await first.step([5])).episode_done

    asyncio.run(run())


def test_the_best_answer_wins_all_its_matches_and_unfinished_answers_pay() -> None:
    found = rewards(trajectory("a"), trajectory("bbb"), trajectory("cc", "length"))
    assert [reward for reward, _ in found] == [-1.0, 1.0, -1.0]
    assert [(metrics["judged"], metrics["finished"], metrics["win_rate"]) for _, metrics in found] == [
        *((-1.0, 1.0, 0.0), (1.0, 1.0, 1.0), (0.0, 0.0, 0.5))
    ]


def test_rewards_belong_to_the_answers_that_are_left() -> None:
    assert [reward for reward, _ in rewards(trajectory("a"), trajectory("cc"))] == [-1.0, 1.0]


def test_one_answer_alone_cannot_be_compared() -> None:
    with pytest.raises(UserError, match="`group_size` must be 2 or more"):
        rewards(trajectory("a"), data=dataset(group_size=1))


def test_a_reward_model_is_asked_about_each_answer() -> None:
    sampler = FakeService().create_sampling_client(base_model=MODEL).result()
    model = RewardModel(sampler, RewardHead((7,), 8, 9))  # type: ignore[arg-type]
    prompts = [[1, 2], [3]]
    data = JudgedPrompts(rewarded(prompts, model), [0], group_size=2, batch_size=1)
    answered = [
        Trajectory(
            [Transition(tinker.ModelInput.from_ints([1, 2]), SampledTokens([token, 0], [-1.0, -1.0], "stop"), 0.0)],
            tinker.ModelInput.empty(),
        )
        for token in (5, 6)
    ]
    found = rewards(*answered, data=data)
    expected = [asyncio.run(model.reward([1, 2], [token, 0])) for token in (5, 6)]
    assert [reward for reward, _ in found] == expected
    assert expected[0] != expected[1]


def test_a_reward_model_bounds_the_requests_of_all_answers_together() -> None:
    class Sampler(UnderWay):
        async def compute_logprobs(self, sequence: tinker.ModelInput) -> list[float | None]:
            return await self.answer([None, -1.0 * sequence.to_ints()[-1]])

    sampler = Sampler()
    model = RewardModel(sampler, RewardHead((7,), 8, 9), concurrency=4)  # type: ignore[arg-type]

    async def run() -> list[float]:
        return await asyncio.gather(*(model.reward([1, 2], [token]) for token in range(32)))

    assert asyncio.run(run()) == [1.0] * 32
    assert (sampler.total, sampler.most) == (64, 4)


def test_a_prompt_without_room_for_an_answer_costs_its_members_alone() -> None:
    empty = Trajectory([], tinker.ModelInput.from_ints([1, 2]), "context_overflow")
    assert [reward for reward, _ in rewards(empty, empty)] == [-1.0, -1.0]
