"""Prompt distillation: move a prompt into the weights.

The teacher, usually the base model itself, answers with the long prompt; the student learns the answers without it, and
answers the same way for the price of the question alone. Context distillation: Askell et al. 2021 (arXiv 2112.00861),
section 2.1; Snell et al. 2022 (arXiv 2209.15189).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import tinker

from hone.algorithms.datums import supervised_datum
from hone.algorithms.distill.lessons import Lesson, Teachers, check_lessons
from hone.algorithms.rl.policy import Policy, sample_seed
from hone.algorithms.types import Observation, SampledTokens, StopCondition

Accept = Callable[[Lesson, SampledTokens], bool]
"""Whether an answer is worth learning: a grader, a format, a length."""


@dataclass(frozen=True)
class Answered:
    """What the teachers gave."""

    lessons: list[Lesson]
    """With their answers; those whose answers were all refused are left out."""
    refused: int
    """Answers that were not accepted, or had no end."""


async def answer_lessons(
    lessons: Sequence[Lesson],
    teachers: Teachers,
    *,
    stop: StopCondition,
    max_tokens: int,
    temperature: float = 1.0,
    attempts: int = 1,
    seed: int = 0,
    accept: Accept | None = None,
    concurrency: int = 64,
) -> Answered:
    """Have every lesson answered by its teacher; the first accepted of `attempts` answers is kept."""
    check_lessons(lessons, teachers, answered=False)
    slots = asyncio.Semaphore(concurrency)
    policies = {name: Policy(sampler, max_tokens, temperature, slots=slots) for name, sampler in teachers.items()}

    async def answers(number: int, lesson: Lesson) -> list[SampledTokens]:
        prompt = tinker.ModelInput.from_ints(list(lesson.seen_by_teacher))
        policy = policies[lesson.teacher]
        return list(await policy.answers(Observation(prompt, stop), attempts, sample_seed(seed, "teacher", number)))

    kept: list[Lesson] = []
    refused = 0
    for lesson, given in zip(
        lessons, await asyncio.gather(*(answers(*numbered) for numbered in enumerate(lessons))), strict=True
    ):
        good = [
            answer for answer in given if answer.stop_reason == "stop" and (accept is None or accept(lesson, answer))
        ]
        refused += len(given) - len(good)
        if good:
            kept.append(replace(lesson, answer=tuple(good[0].tokens)))
    return Answered(kept, refused)


def student_datums(lessons: Sequence[Lesson]) -> list[tinker.Datum]:
    """Examples for `sft.train`: the answers after the student's own prompts."""
    return [
        supervised_datum(
            tinker.ModelInput.from_ints([*lesson.prompt, *lesson.answer]),
            [0.0] * len(lesson.prompt) + [1.0] * len(lesson.answer),
        )
        for lesson in lessons
    ]
