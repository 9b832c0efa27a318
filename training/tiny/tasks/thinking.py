"""Working a sum out between think tags before answering, when asked to."""

import random
from dataclasses import replace

from training.tiny.problem import Problem, Task, registry, user
from training.tiny.tasks import arithmetic

REQUESTS = (
    " Think first.",
    " Think step by step.",
    " Think before you answer.",
    " Use think tags.",
    " Think it through.",
    " Show your thinking first.",
    " Reason first, then answer.",
    " Take your time and think.",
)


def think_sum(rng: random.Random) -> Problem:
    """Two-digit sums by tens and ones."""
    a, b = rng.randint(10, 99), rng.randint(10, 99)
    plain = arithmetic.add(rng, a, b)
    ones, tens = a % 10 + b % 10, (a // 10 + b // 10) * 10
    steps = f"{a % 10} + {b % 10} = {ones}, {a // 10 * 10} + {b // 10 * 10} = {tens}, {tens} + {ones} = {a + b}"
    answer = f"<think>\n{steps}\n</think>\n\n{a + b}"
    return replace(plain, messages=(user(plain.question + rng.choice(REQUESTS)),), answer=answer)


TASKS = registry(Task("think_sum", think_sum, weight=1, max_tokens=64))
