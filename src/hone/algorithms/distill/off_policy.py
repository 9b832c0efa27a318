"""Off-policy distillation: on given answers, match the teacher's distribution over each token, not the token alone.

Forward KL(teacher || student), cut to the teacher's K likeliest tokens (Hinton et al. 2015, arXiv 1503.02531; Kim and
Rush 2016, arXiv 1606.07947). The loss is a cross-entropy with soft targets, so the loop is that of fine-tuning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tinker

from hone.algorithms.distill.lessons import Lesson, Teachers, check_lessons
from hone.algorithms.distill.teachers import SoftAnswer, soft_answer
from hone.errors import UserError


@dataclass(frozen=True)
class SoftTargets:
    """Given to `sft.train` as `prepare`, with `Lesson`s as examples: each step asks the teachers for its targets."""

    teachers: Teachers
    candidates: int = 20
    """K, the teacher's likeliest tokens that are kept."""
    concurrency: int = 64

    def check(self, lessons: Sequence[Lesson]) -> None:
        if self.candidates < 1:
            raise UserError(
                f"`candidates` is how many of the teacher's tokens are kept, 1 or more; found {self.candidates}"
            )
        check_lessons(lessons, self.teachers, answered=True)

    async def __call__(self, lessons: Sequence[Lesson]) -> list[tinker.Datum]:
        slots = asyncio.Semaphore(self.concurrency)

        async def taught(lesson: Lesson) -> tinker.Datum:
            async with slots:
                teacher = self.teachers[lesson.teacher]
                soft = await soft_answer(teacher, lesson.seen_by_teacher, lesson.answer, self.candidates)
            return soft_datum(lesson.prompt, lesson.answer, soft)

        return list(await asyncio.gather(*(taught(lesson) for lesson in lessons)))


def soft_datum(prompt: Sequence[int], answer: Sequence[int], soft: SoftAnswer) -> tinker.Datum:
    """Say what the teacher would, at each place of `answer`; every lesson counts the same whatever its length.

    Position t of the input predicts token t + 1, so the first place of the answer is predicted at the prompt's end.
    """
    tokens = [*prompt, *answer]
    candidates = soft.tokens_AK.shape[1]
    targets_TK = np.zeros((len(tokens) - 1, candidates), dtype=np.int64)
    weights_TK = np.zeros((len(tokens) - 1, candidates), dtype=np.float32)
    targets_TK[len(prompt) - 1 :] = soft.tokens_AK
    weights_TK[len(prompt) - 1 :] = soft.probabilities_AK / len(answer)
    return tinker.Datum(
        model_input=tinker.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={
            "target_tokens": tinker.TensorData.from_numpy(targets_TK),
            "weights": tinker.TensorData.from_numpy(weights_TK),
        },
    )
