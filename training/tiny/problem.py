"""What a problem and a task are, and which problems are never trained on.

Every problem carries keys that name what has to be worked out ("37+45", "words owl kite"), not how it is phrased.
A stable hash of each key puts it on the training side or the held-out side, so the same sum is on the same side in
every task that uses it, on every machine and in every Python version.
"""

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypedDict

Split = Literal["train", "held_out"]

HELD_OUT_PERCENT = 10


class Message(TypedDict):
    role: Literal["system", "user", "assistant", "tool"]
    content: str


def is_held_out(key: str) -> bool:
    """Whether a problem with this key is kept for evaluation."""
    return zlib.crc32(key.encode()) % 100 < HELD_OUT_PERCENT


@dataclass(frozen=True, slots=True)
class Problem:
    """A conversation that waits for an answer, and the answer."""

    messages: tuple[Message, ...]
    answer: str
    keys: tuple[str, ...]
    """What has to be worked out. The problem is held out as soon as one of these is."""

    @property
    def held_out(self) -> bool:
        return any(is_held_out(key) for key in self.keys)

    @property
    def question(self) -> str:
        """The text of the last user turn."""
        return self.messages[-1]["content"]


Generator = Callable[[random.Random], Problem]


def exact(problem: Problem, text: str) -> bool:
    """The whole answer is right, apart from white space around it."""
    return text.strip() == problem.answer


@dataclass(frozen=True, slots=True)
class Task:
    """A named stream of problems."""

    name: str
    generate: Generator
    weight: float = 1.0
    """Share in the training mix, relative to the other tasks."""
    early: bool = False
    """Whether the task belongs to the opening phase, where only the skills that others build on are trained."""
    check: Callable[[Problem, str], bool] = exact
    """Whether a text answers the problem."""
    max_tokens: int = 48
    guessable: bool = False
    """Whether picking any of the few things mentioned is often right, so that a middling score says little."""
    memorised: bool = False
    """Whether the task is a short list of fixed replies, which has no held-out side."""

    def sample(self, rng: random.Random, split: Split = "train") -> Problem:
        """Draw problems until one falls on the wanted side."""
        for _ in range(5000):
            problem = self.generate(rng)
            if problem.held_out == (split == "held_out"):
                return problem
        raise ValueError(f"task {self.name!r} gave no {split} problem in 5000 draws; widen its word lists or ranges")


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}


def single(question: str, answer: str, *keys: str) -> Problem:
    """A problem of one user turn. Without a key the question itself is the key."""
    return Problem((user(question),), answer, keys or (question,))


def fill(rng: random.Random, templates: tuple[str, ...], **fields: object) -> str:
    """One of the phrasings, with its gaps filled."""
    return rng.choice(templates).format(**fields)


def registry(*tasks: Task) -> dict[str, Task]:
    """Tasks by name; a name given twice is our mistake."""
    by_name = {task.name: task for task in tasks}
    assert len(by_name) == len(tasks), "two tasks share a name"
    return by_name
