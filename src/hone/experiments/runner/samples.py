"""Answers for people: the same questions, before and after training."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hone.errors import UserError
from hone.experiments.config import RunConfig
from hone.experiments.data.load import held_out_rows
from hone.experiments.data.rows import ChatRow, TaskRow
from hone.experiments.records import ArmRecord, SampleRecord
from hone.experiments.runner.measure import GradedAnswer, graded_answers, sampled
from hone.experiments.runner.rows import MeasuredRows, Rows
from hone.experiments.runner.services import Speaker

if TYPE_CHECKING:
    import tinker

LONGEST = 4000
"""Characters of one text."""


async def before_and_after(
    speaker: Speaker, runs: Sequence[RunConfig], arm: ArmRecord, rows: Rows, count: int
) -> list[SampleRecord]:
    """Validation rows, the same seed for both. Graded where the rows say how."""
    asked = _asked(runs[0], rows, count)
    service = speaker.session.service
    base = await service.create_sampling_client(base_model=speaker.model)
    trained = await service.create_sampling_client(model_path=arm.sampler_path)
    before, after = [await _answers(sampler, asked, speaker, arm.seed) for sampler in (base, trained)]
    graded = bool(asked.graders)
    return [
        SampleRecord(
            task=one.row.id,
            prompt=_text(one.row),
            before=one.text[:LONGEST],
            after=other.text[:LONGEST],
            score_before=one.score if graded else None,
            score_after=other.score if graded else None,
        )
        for one, other in zip(before, after, strict=True)
    ]


async def _answers(
    sampler: tinker.SamplingClient, asked: MeasuredRows, speaker: Speaker, seed: int
) -> Sequence[GradedAnswer]:
    ask = sampled(sampler, asked, speaker.renderer, seed, asyncio.Semaphore(16))
    if asked.graders:
        return await graded_answers(asked, ask)
    return [GradedAnswer(row, 0, (await ask(row))[0][0], 0.0) for row in asked.tasks]


def _asked(run: RunConfig, rows: Rows, count: int) -> MeasuredRows:
    """The measured tasks; of conversations, what stands before their last answer."""
    measured = rows.measured(run)
    settings: dict[str, Any] = {"max_tokens": measured.max_tokens, "temperature": measured.temperature, "metrics": {}}
    if measured.tasks:
        return MeasuredRows(tasks=measured.tasks[:count], graders=measured.graders[:count], **settings)
    source = rows.validated(run)
    limit = run.validation.limit
    try:
        found = held_out_rows(source, "chat", limit=limit)[:count]
    except UserError:
        found = []
    tasks = [TaskRow(row.id, row.place, _before_answer(row)) for row in found if isinstance(row, ChatRow)]
    return MeasuredRows(tasks=[task for task in tasks if task.prompt], **settings)


def _before_answer(row: ChatRow) -> Sequence[Any]:
    users = [place for place, message in enumerate(row.messages) if message["role"] != "assistant"]
    return row.messages[: users[-1] + 1] if users else ()


def _text(row: TaskRow) -> str:
    from hone.algorithms.messages import text_of

    return text_of(row.prompt[-1])[:LONGEST]
