"""Problems made up on the spot, in phrasings that the embedded model knows.

How well it does before any training stands in its model card. A tenth of all problems, chosen by a hash of what has
to be worked out, is held out; it is the same tenth that the model never saw.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from hone.algorithms.envs.problems import ProblemEnv
from hone.algorithms.graders.exact import Exact
from hone.algorithms.graders.grade import Task
from hone.errors import UserError

Split = Literal["train", "held_out"]
HELD_OUT_PERCENT = 10


class Drawn(NamedTuple):
    question: str
    answer: str
    key: str
    """What has to be worked out, whatever the phrasing."""


@dataclass(frozen=True)
class Family:
    """A stream of problems of one kind."""

    name: str
    summary: str
    draw: Callable[[random.Random], Drawn]
    guess: Callable[[random.Random], str]
    """An answer of the right form."""

    def env(self, seed: int, split: Split = "train") -> ProblemEnv:
        """The problem of this seed; the whole answer has to be right."""
        drawn = self.problem(seed, split)
        return ProblemEnv(Task(drawn.question, drawn.answer), Exact(), guess=self.guess)

    def problem(self, seed: int, split: Split = "train") -> Drawn:
        rng = random.Random(f"{self.name}/{seed}")
        for _ in range(5000):
            drawn = self.draw(rng)
            if is_held_out(drawn.key) == (split == "held_out"):
                return drawn
        raise UserError(f"the family {self.name!r} gave no {split} problem in 5000 draws; widen its range")


def is_held_out(key: str) -> bool:
    return zlib.crc32(key.encode()) % 100 < HELD_OUT_PERCENT


def _sum_two_digit(rng: random.Random) -> Drawn:
    a, b = rng.randint(10, 99), rng.randint(10, 99)
    question = rng.choice(("What is {a} + {b}?", "Add {a} and {b}.", "{a} + {b} = ?", "How much is {a} plus {b}?"))
    return Drawn(question.format(a=a, b=b), str(a + b), f"{min(a, b)}+{max(a, b)}")


def _subtract_two_digit(rng: random.Random) -> Drawn:
    b, a = sorted((rng.randint(20, 99), rng.randint(10, 99)))
    question = rng.choice(("What is {a} - {b}?", "Subtract {b} from {a}.", "{a} - {b} = ?", "What is {a} minus {b}?"))
    return Drawn(question.format(a=a, b=b), str(a - b), f"{a}-{b}")


def _multiply_one_digit(rng: random.Random) -> Drawn:
    a, b = rng.randint(0, 10), rng.randint(0, 10)
    question = rng.choice(("What is {a} * {b}?", "Multiply {a} by {b}.", "{a} * {b} = ?", "What is {a} times {b}?"))
    return Drawn(question.format(a=a, b=b), str(a * b), f"{min(a, b)}*{max(a, b)}")


def _sum_three_numbers(rng: random.Random) -> Drawn:
    numbers = [rng.randint(1, 20) for _ in range(3)]
    question = rng.choice(("What is {} + {} + {}?", "Add {}, {} and {}.", "What is the sum of {}, {} and {}?"))
    return Drawn(question.format(*numbers), str(sum(numbers)), "+".join(map(str, sorted(numbers))))


def _sort_three_descending(rng: random.Random) -> Drawn:
    numbers = rng.sample(range(100), 3)
    question = rng.choice(
        ("Sort these numbers in descending order: {}", "Sort from largest to smallest: {}", "Sort descending: {}")
    )
    answer = ", ".join(map(str, sorted(numbers, reverse=True)))
    key = "words " + " ".join(sorted(map(str, numbers)))
    return Drawn(question.format(", ".join(map(str, numbers))), answer, key)


def _number_below(end: int) -> Callable[[random.Random], str]:
    return lambda rng: str(rng.randrange(end))


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("sum_two_digit", "add two numbers of two digits", _sum_two_digit, _number_below(199)),
        Family("subtract_two_digit", "subtract numbers of two digits", _subtract_two_digit, _number_below(90)),
        Family("multiply_one_digit", "multiply numbers up to ten", _multiply_one_digit, _number_below(101)),
        Family("sum_three_numbers", "add three numbers up to twenty", _sum_three_numbers, _number_below(61)),
        Family(
            "sort_three_descending",
            "sort three numbers, largest first",
            _sort_three_descending,
            lambda rng: ", ".join(map(str, sorted(rng.sample(range(100), 3), reverse=True))),
        ),
    )
}
