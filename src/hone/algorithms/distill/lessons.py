"""What is taught."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import tinker

from hone.errors import UserError

ONLY = "teacher"
"""The name of a teacher that is alone."""


@dataclass(frozen=True)
class Lesson:
    """One prompt in two versions, in tokens. An answer to it means the same after either."""

    prompt: tuple[int, ...]
    """What the student sees."""
    teacher_prompt: tuple[int, ...] = ()
    """What the teacher sees: instructions, examples or the solution may stand in it. Empty: the same as the student."""
    answer: tuple[int, ...] = ()
    """For methods that imitate given answers; others have it sampled."""
    teacher: str = ONLY
    """Which of several teachers gives it."""

    @property
    def seen_by_teacher(self) -> tuple[int, ...]:
        return self.teacher_prompt or self.prompt


Teachers = Mapping[str, tinker.SamplingClient]
"""Sampling clients by the name that lessons use."""


def check_lessons(lessons: Sequence[Lesson], teachers: Teachers | None, *, answered: bool) -> None:
    """Before anything is trained. Without `teachers` the student teaches itself, whatever a lesson says.

    Raises:
        UserError: nothing to learn, an empty prompt, an unknown teacher, or no answer where one is needed.
    """
    if not lessons:
        raise UserError("there is nothing to learn from: `lessons` is empty")
    for number, lesson in enumerate(lessons):
        if not lesson.prompt:
            raise UserError(f"lesson {number} has an empty prompt")
        if teachers is not None and lesson.teacher not in teachers:
            raise UserError(
                f"lesson {number} names the teacher {lesson.teacher!r}; there are {', '.join(sorted(teachers))}"
            )
        if answered and not lesson.answer:
            raise UserError(f"lesson {number} has no answer; sample some first, or distil on-policy")
