"""The self check finds what is wrong with an environment."""

import asyncio
import random

import pytest

from hone.algorithms.envs.check import CheckResult, check
from hone.algorithms.envs.message_env import Checkable, Dialogue, Turn, asked, said
from hone.algorithms.messages import Message, text_of


class Echo(Dialogue, Checkable):
    """Wants the word it says; each kind has a defect of its own."""

    def __init__(self, seed: int, defect: str) -> None:
        super().__init__()
        self.word, self.defect = f"word{seed}", defect

    def opening(self) -> list[Message]:
        return [asked(f"{self.word} {random.random() if self.defect == 'other each time' else ''}")]

    async def respond(self, message: Message) -> Turn:
        right = text_of(message) == self.word
        if self.defect == "endless":
            return Turn([asked("more")])
        return Turn(reward=1.0 if right or self.defect == "pays everybody" else 0.0, done=True)

    async def gold_reply(self) -> Message:
        return said("wrong" if self.defect == "wrong gold" else self.word)

    def random_reply(self, rng: random.Random) -> Message:
        return said(f"word{rng.randrange(10**6)}")


def result(defect: str) -> CheckResult:
    return asyncio.run(check(lambda seed: Echo(seed, defect), episodes=3))


def test_a_sound_environment_passes() -> None:
    found = result("")
    assert found.passed
    assert (found.gold_return, found.best_return, found.random_return) == (1.0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("defect", "problem"),
    [
        ("wrong gold", "seed 0: gold play reached 0, and the best is 1"),
        ("pays everybody", "random play reached 1 on average, and the best is 1"),
        ("other each time", "it went two ways"),
        ("endless", "no end after 200 turns"),
    ],
)
def test_every_defect_is_found(defect: str, problem: str) -> None:
    found = result(defect)
    assert not found.passed
    assert any(problem in line for line in found.problems)
