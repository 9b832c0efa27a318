"""Plugins of this project. `plugins: [plugins.py]` in an experiment file makes them known to it.

`hone explain verifier date --plugins plugins.py` shows what this one can be told.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from hone.algorithms.config import Config
from hone.algorithms.graders.grade import Grade, Grader, Task
from hone.experiments.kinds.contract import Verifier
from hone.experiments.kinds.plugins import register_verifier


class DateParams(Config):
    half_right: float = Field(default=0.0, ge=0, le=1)
    """What an answer is worth that has the month or the day right, but not both."""


@register_verifier("date")
class Date(Verifier[DateParams]):
    """The answer is the right month and day, written as MM-DD."""

    Params = DateParams

    def grader(self) -> Grader:
        return DateGrader(self.params.half_right)


@dataclass(frozen=True)
class DateGrader:
    """Compares an answer with `task.gold`. A grade lies between 0 and 1."""

    half_right: float

    async def __call__(self, task: Task, answer: str) -> Grade:
        right = task.gold.split("-")
        found = answer.strip().split("-")
        if found == right:
            return Grade(1.0)
        hits = sum(a == b for a, b in zip(found, right, strict=False))
        return Grade(self.half_right if hits else 0.0, {"found": answer[:40]})
