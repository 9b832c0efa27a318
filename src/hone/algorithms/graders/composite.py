"""Several graders in one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from hone.algorithms.graders.grade import Grade, Grader, Task
from hone.algorithms.types import Logs
from hone.errors import UserError


@dataclass(frozen=True)
class Weighted:
    """The weighted mean of several graders' scores; each one's own is in the details under its name."""

    parts: Mapping[str, tuple[Grader, float]]
    """Graders and their weights, by name. Weights are relative."""

    def __post_init__(self) -> None:
        weights = [weight for _, weight in self.parts.values()]
        if not weights or min(weights) < 0 or sum(weights) == 0:
            raise UserError(f"weights of graders are at least 0 and not all 0; found {weights}")

    async def __call__(self, task: Task, answer: str) -> Grade:
        grades = await asyncio.gather(*(grader(task, answer) for grader, _ in self.parts.values()))
        weights = [weight for _, weight in self.parts.values()]
        score = sum(grade.score * weight for grade, weight in zip(grades, weights, strict=True)) / sum(weights)
        return Grade(min(1.0, score), _details(dict(zip(self.parts, grades, strict=True))))


@dataclass(frozen=True)
class AllOf:
    """The lowest of several graders' scores: right only if all say so."""

    parts: Mapping[str, Grader]

    async def __call__(self, task: Task, answer: str) -> Grade:
        grades = await asyncio.gather(*(grader(task, answer) for grader in self.parts.values()))
        return Grade(min(grade.score for grade in grades), _details(dict(zip(self.parts, grades, strict=True))))


def _details(grades: Mapping[str, Grade]) -> Logs:
    details: Logs = {}
    for name, grade in grades.items():
        details[name] = grade.score
        details |= {f"{name}/{key}": value for key, value in grade.details.items()}
    return details
