"""Answers of a group are compared with each other, whoever of the group is left."""

import asyncio
from collections.abc import Sequence

import pytest

from hone.algorithms.envs.preference import JudgedGroup
from hone.algorithms.graders.grade import Task
from hone.algorithms.graders.pairwise import Pairwise
from hone.algorithms.messages import Message
from hone.algorithms.types import Metrics, Trajectory
from tests.support.chatml import END, ByteChatMl


class Longer:
    """Prefers the longer answer."""

    async def __call__(self, messages: Sequence[Message], *, seed: int) -> str:
        text = str(messages[-1]["content"])
        first, second = (text.split(f"<answer_{name}>")[1].split("</answer")[0] for name in "ab")
        return "Verdict: " + ("Tie" if len(first) == len(second) else "A" if len(first) > len(second) else "B")


def builder() -> JudgedGroup:
    task = Task("Say something.", facts={"rubric": "Longer is better."})
    return JudgedGroup(task, Pairwise(Longer()), ByteChatMl(), group_size=3)


@pytest.mark.parametrize("kept", [[0, 1, 2], [0, 2], [1]])
def test_rewards_belong_to_the_answers_that_are_left(kept: list[int]) -> None:
    async def run() -> tuple[list[float], list[tuple[float, Metrics]]]:
        group = builder()
        envs = list(await group.make_envs())
        steps = []
        for env, text in zip(envs, (b"a", b"bbb", b"cc"), strict=True):
            await env.initial_observation()
            # The last one does not end.
            steps.append(await env.step([*text, END] if text != b"cc" else [*text]))
        empty = [Trajectory([], step.next_observation) for step in steps]
        rewards = await group.compute_group_rewards([empty[place] for place in kept], [envs[place] for place in kept])
        return [step.reward for step in steps], rewards

    of_steps, of_group = asyncio.run(run())
    assert of_steps == [0.0, 0.0, -1.0]
    expected = {3: [-1.0, 1.0, 0.0], 2: [-1.0, 1.0], 1: [0.0]}[len(kept)]
    assert [reward for reward, _ in of_group] == expected
