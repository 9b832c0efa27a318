"""Every environment of our own, by name. Adding one is a file and an entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hone.algorithms.envs.generated import FAMILIES
from hone.algorithms.envs.guess_number import GuessNumber
from hone.algorithms.envs.memory import Memory
from hone.algorithms.envs.message_env import Checkable
from hone.algorithms.envs.tic_tac_toe import tic_tac_toe_env
from hone.algorithms.envs.tool_problems import calculator_env, python_env, search_env
from hone.algorithms.envs.twenty_questions import TwentyQuestions

MEMORY_SECRET = 0
"""The memory test has one secret for a whole run, whatever the episode."""


@dataclass(frozen=True)
class BuiltIn:
    summary: str
    make: Callable[[int], Checkable]
    """The episode of a seed: the same seed, the same episode."""


ENVIRONMENTS: dict[str, BuiltIn] = {
    **{name: BuiltIn(family.summary, family.env) for name, family in FAMILIES.items()},
    "calculator": BuiltIn("arithmetic with a calculator to call", calculator_env),
    "search": BuiltIn("a question of two steps with a search to call", search_env),
    "python": BuiltIn("a sum of digits with Python to call", python_env),
    "guess_number": BuiltIn("find a number, told higher or lower", GuessNumber),
    "twenty_questions": BuiltIn("find a word with questions for yes or no", TwentyQuestions),
    "tic_tac_toe": BuiltIn("tic-tac-toe against a perfect player", tic_tac_toe_env),
    "memory": BuiltIn("learn a number that only the reward tells", lambda seed: Memory(MEMORY_SECRET)),
}
