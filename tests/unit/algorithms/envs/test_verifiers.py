"""Tasks of verifiers are asked, answered and rewarded here."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from hone.algorithms.envs.message_env import MessageStep, said
from hone.algorithms.envs.verifiers import VerifiersTask
from hone.errors import UserError

vf = pytest.importorskip("verifiers.v1")


class Data(vf.TaskData):  # type: ignore[misc, name-defined]
    answer: str


class Sum(vf.Task):  # type: ignore[misc, name-defined]
    @vf.reward(weight=2.0)
    async def right(self, task: Any, trace: Any) -> float:
        return float(trace.last_reply == task.answer)

    @vf.reward
    async def short(self, trace: Any) -> float:
        return float(len(trace.last_reply) < 3)

    @vf.metric
    async def length(self, trace: Any) -> float:
        return float(len(trace.last_reply))


class InABox(Sum):
    @vf.reward
    async def looks(self, runtime: Any) -> float:
        return 1.0


class Container(Sum):
    NEEDS_CONTAINER = True


class Prepared(Sum):
    async def setup(self, trace: Any, runtime: Any) -> None: ...


class Unrewarded(vf.Task):  # type: ignore[misc, name-defined]
    """As those whose environment plays the user, and gives the reward."""


class Sums(vf.Taskset[Sum, vf.TasksetConfig]):  # type: ignore[misc, name-defined]
    def load(self) -> Iterator[Sum]:
        for left in range(10):
            yield Sum(Data(prompt=f"{left} + 1?", system_prompt="Be brief.", answer=str(left + 1)))


async def play(task: Any, text: str) -> MessageStep:
    env = VerifiersTask(task)
    messages = await env.initial_observation()
    assert [message["role"] for message in messages] == ["system", "user"]
    return await env.step(said(text))


@pytest.mark.parametrize(("text", "reward"), [("42", 3.0), ("41", 1.0), ("the answer", 0.0)])
def test_a_task_is_played(text: str, reward: float) -> None:
    task = Sum(Data(prompt="6 * 7?", system_prompt="Be brief.", answer="42"))
    step = asyncio.run(play(task, text))
    assert step.reward == reward
    assert step.episode_done
    assert step.metrics["length"] == len(text)


def test_the_tasks_of_a_set_are_environments() -> None:
    tasks = list(Sums(vf.TasksetConfig(id="sums")).shuffle(seed=1).take(3))
    assert len({task.data.prompt for task in tasks}) == 3
    rewards = [asyncio.run(play(task, task.data.answer)).reward for task in tasks]
    assert rewards == [3.0] * 3


def test_scoring_ends_in_its_time() -> None:
    class Slow(Sum):
        @vf.reward
        async def right(self, task: Any, trace: Any) -> float:
            await asyncio.sleep(60)
            return 1.0

    task = Slow(Data(prompt="6 * 7?", system_prompt="", answer="42", timeout=vf.TaskTimeout(scoring=0.01)))
    with pytest.raises(TimeoutError):
        asyncio.run(VerifiersTask(task).respond(said("42")))


def test_a_prompt_of_messages_is_kept() -> None:
    prompt = [vf.UserMessage(content="6 * 7?"), vf.AssistantMessage(content="Wait."), vf.UserMessage(content="Now!")]
    env = VerifiersTask(Sum(Data(prompt=prompt, answer="42")))
    assert [message["role"] for message in env.opening()] == ["user", "assistant", "user"]


@pytest.mark.parametrize(
    ("task", "why"),
    [
        (InABox, "the reward looks, which looks into a container"),
        (Container, "needs a container"),
        (Prepared, "has a setup, which works in a container"),
        (Unrewarded, "has no rewards of its own"),
    ],
)
def test_what_needs_more_is_refused(task: Any, why: str) -> None:
    with pytest.raises(UserError, match=why):
        VerifiersTask(task(Data(prompt="6 * 7?", answer="42")))


def test_a_conversation_that_a_user_opens_is_refused() -> None:
    with pytest.raises(UserError, match="has no prompt"):
        VerifiersTask(Sum(Data(answer="42")))
