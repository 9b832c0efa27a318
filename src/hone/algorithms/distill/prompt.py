"""Prompt distillation: move a prompt into the weights.

The teacher, usually the base model itself, answers with the long prompt; the student learns the answers without it, and
answers the same way for the price of the question alone. Context distillation: Askell et al. 2021 (arXiv 2112.00861),
section 2.1; Snell et al. 2022 (arXiv 2209.15189).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import tinker

from hone.algorithms.datums import supervised_datum
from hone.algorithms.distill.lessons import Lesson, Teachers, check_lessons
from hone.algorithms.rl.policy import Policy, sample_seed
from hone.algorithms.types import Observation, SampledTokens, StopCondition
from hone.errors import UserError
from hone.observe.progress import Display, silent
from hone.storage import jsonl

Settings = tuple[list[str] | list[int], int, float, int, int]
"""What answers are sampled with: stop condition, tokens, temperature, attempts, seed."""
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
    file: Path | None = None,
    display: Display = silent,
) -> Answered:
    """Have every lesson answered by its teacher; the first accepted of `attempts` answers is kept.

    Answers go to `file` as they come, whether accepted or not: called again with it after an interruption, only what is
    missing is asked, to the same result. It has to be the same teachers then, which nothing checks.

    Raises:
        UserError: `file` holds answers to other lessons, or ones that were sampled with other settings.
    """
    check_lessons(lessons, teachers, answered=False)
    settings = (stop, max_tokens, float(temperature), attempts, seed)
    given = {} if file is None else _read_answers(file, lessons, settings)
    slots = asyncio.Semaphore(concurrency)
    policies = {name: Policy(sampler, max_tokens, temperature, slots=slots) for name, sampler in teachers.items()}

    async def answers(number: int, lesson: Lesson) -> list[SampledTokens]:
        if number in given:
            return given[number]
        prompt = tinker.ModelInput.from_ints(list(lesson.seen_by_teacher))
        policy = policies[lesson.teacher]
        sampled = await policy.answers(Observation(prompt, stop), attempts, sample_seed(seed, "teacher", number))
        if file is not None:
            row = {"lesson": number, "asked": _fingerprint(lesson, settings), "answers": list(map(asdict, sampled))}
            jsonl.append(file, row, durable=True)
        advance(f"{sum(len(answer.tokens) for answer in sampled)} tokens")
        return list(sampled)

    with display.bar("lessons", len(lessons) - len(given)) as advance:
        said_by_lesson = await asyncio.gather(*(answers(*numbered) for numbered in enumerate(lessons)))
    kept: list[Lesson] = []
    refused = 0
    for lesson, said in zip(lessons, said_by_lesson, strict=True):
        good = [
            answer for answer in said if answer.stop_reason == "stop" and (accept is None or accept(lesson, answer))
        ]
        refused += len(said) - len(good)
        if good:
            kept.append(replace(lesson, answer=tuple(good[0].tokens)))
    return Answered(kept, refused)


def _read_answers(file: Path, lessons: Sequence[Lesson], settings: Settings) -> dict[int, list[SampledTokens]]:
    """By the number of the lesson; a last line that a crash cut off is dropped from the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    jsonl.drop_cut_line(file)
    found = {}
    for row in jsonl.read(file):
        number = row["lesson"]
        if number >= len(lessons) or row["asked"] != _fingerprint(lessons[number], settings):
            raise UserError(
                f"{file} holds answers to other lessons, or of other settings (the first is to lesson {number}); "
                "give another file, or delete it to ask anew"
            )
        found[number] = [SampledTokens(**answer) for answer in row["answers"]]
    return found


def _fingerprint(lesson: Lesson, settings: Settings) -> str:
    """Of all that decides on the answers to a lesson at its place, but the teacher's weights."""
    return hashlib.sha256(repr((lesson.seen_by_teacher, lesson.teacher, settings)).encode()).hexdigest()[:24]


def student_datums(lessons: Sequence[Lesson]) -> list[tinker.Datum]:
    """Examples for `sft.train`: the answers after the student's own prompts."""
    return [
        supervised_datum(
            tinker.ModelInput.from_ints([*lesson.prompt, *lesson.answer]),
            [0.0] * len(lesson.prompt) + [1.0] * len(lesson.answer),
        )
        for lesson in lessons
    ]
