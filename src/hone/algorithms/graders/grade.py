"""What a grader is given and what it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from hone.algorithms.types import Logs
from hone.errors import HoneError


@dataclass(frozen=True)
class Task:
    """A question and what is known of its answers."""

    question: str
    gold: str = ""
    """A right answer, where there is one."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else a grader needs, such as tests or a schema; each grader says what it reads."""


@dataclass(frozen=True)
class Grade:
    """How good an answer is, from 0 to 1, and why."""

    score: float
    details: Logs = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert 0.0 <= self.score <= 1.0, f"a score lies between 0 and 1; this is {self.score}"

    @property
    def right(self) -> bool:
        return self.score >= 1.0


class Grader(Protocol):
    """Judges the text of an answer.

    A wrong, malformed or hostile answer is a low score. A judgement that could not be made is a `GradingError`.
    """

    async def __call__(self, task: Task, answer: str) -> Grade: ...


class GradingError(HoneError):
    """There is no verdict: a judge that answered in no known form, or a grader that is not set up.

    It ends the rollout as a failure, which is counted; a score of 0 would blame the answer.
    """


def verdict(right: bool, **details: str | int | float) -> Grade:
    """All or nothing."""
    return Grade(float(right), details)
