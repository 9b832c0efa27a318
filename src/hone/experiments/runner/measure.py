"""One model on one set of rows: sampled answers graded by verifiers, and how likely right answers are.

Whatever goes wrong with one answer is its own: it counts as 0, and by its reason.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import tinker

from hone.algorithms.datums import floats, supervised_datum
from hone.algorithms.graders.grade import Grader, GradingError
from hone.algorithms.messages import text_of
from hone.algorithms.renderers import Renderer, TrainOnWhat
from hone.algorithms.rl.policy import Policy, sample_seed
from hone.algorithms.scoring import target_logprobs
from hone.algorithms.types import Observation
from hone.errors import UserError
from hone.experiments.data.rows import ChatRow, PreferenceRow, StandardRow, TaskRow
from hone.experiments.kinds.algorithms.examples import graded_task, naming
from hone.experiments.kinds.contract import Metric, TaskScores
from hone.experiments.records import Measurement, TaskResult, Usage
from hone.experiments.runner.rows import MeasuredRows
from hone.experiments.runner.usage import Meter, metered_sampler, since

if TYPE_CHECKING:
    from hone.experiments.kinds.contract import Inference

CONCURRENCY = 64


@dataclass(frozen=True)
class GradedAnswer:
    row: TaskRow
    number: int
    text: str
    score: float
    failure: str | None = None
    """`error`, `cut_off`, `malformed` or `ungraded`; None if there was an answer that could be graded."""
    why: str = ""


Answer = tuple[str, str | None, str]
"""Text, failure and reason."""
Ask = Callable[[TaskRow], Awaitable[Sequence[Answer]]]
"""All answers to one task."""


@dataclass(frozen=True)
class Measured:
    measurement: Measurement
    answers: Sequence[GradedAnswer] = field(default_factory=list)


async def measure_sampler(
    sampler: tinker.SamplingClient, rows: MeasuredRows, renderer: Renderer, *, step: int, seed: int, meter: Meter
) -> Measured:
    """The weights behind a sampling client. The same weights, rows and seed give the same numbers."""
    before, began = meter.usage, time.monotonic()
    counted = metered_sampler(sampler, meter)
    slots = asyncio.Semaphore(CONCURRENCY)
    answers = await graded_answers(rows, sampled(counted, rows, renderer, seed, slots))
    likelihoods = await _likelihoods(counted, rows.examples, renderer, slots)
    pairs = await _pairs(counted, rows.pairs, renderer, slots)
    usage = since(meter.usage, before).model_copy(update={"seconds": time.monotonic() - began})
    return Measured(summary(rows, answers, likelihoods, pairs, step=step, usage=usage), answers)


async def measure_inference(model: Inference[Any], rows: MeasuredRows, *, seed: int) -> Measured:
    """A model that is not trained here. It has no likelihoods."""
    slots = asyncio.Semaphore(CONCURRENCY)

    async def ask(row: TaskRow) -> Sequence[Answer]:
        async def one(number: int) -> Answer:
            async with slots:
                try:
                    return (
                        await model.generate(
                            row.prompt,
                            max_tokens=rows.max_tokens,
                            temperature=rows.temperature,
                            seed=sample_seed(seed, row.id, number),
                        ),
                        None,
                        "",
                    )
                except UserError as error:
                    return "", "error", str(error)

        return await asyncio.gather(*(one(number) for number in range(rows.samples)))

    began = time.monotonic()
    answers = await graded_answers(rows, ask)
    usage = Usage(seconds=time.monotonic() - began)
    return Measured(summary(rows, answers, [], [], step=0, usage=usage), answers)


def sampled(
    sampler: tinker.SamplingClient, rows: MeasuredRows, renderer: Renderer, seed: int, slots: asyncio.Semaphore
) -> Ask:
    policy = Policy(sampler, rows.max_tokens, rows.temperature, slots=slots)
    stop = renderer.get_stop_sequences()

    async def ask(row: TaskRow) -> Sequence[Answer]:
        try:
            prompt = renderer.build_generation_prompt(row.prompt)
            given = await policy.answers(Observation(prompt, stop), rows.samples, sample_seed(seed, "measure", row.id))
        except (UserError, tinker.TinkerError) as error:
            return [("", "error", str(error))] * rows.samples
        answers: list[Answer] = []
        for one in given:
            message, termination = renderer.parse_response(one.tokens)
            text = text_of(message)
            if one.stop_reason == "length":
                answers.append((text, "cut_off", f"no end after {len(one.tokens)} tokens"))
            elif not termination.is_clean:
                answers.append((text, "malformed", str(termination)))
            else:
                answers.append((text, None, ""))
        return answers

    return ask


async def graded_answers(rows: MeasuredRows, ask: Ask) -> list[GradedAnswer]:
    """Of every task, in order.

    Raises:
        UserError: no answer could be had at all: that says nothing of the model.
    """

    async def one(row: TaskRow, grader: Grader) -> list[GradedAnswer]:
        return [await _graded(row, number, answer, grader) for number, answer in enumerate(await ask(row))]

    found = await asyncio.gather(*(one(row, grader) for row, grader in zip(rows.tasks, rows.graders, strict=True)))
    answers = [answer for answers in found for answer in answers]
    for kind, told in (("error", "the model could not be asked"), ("ungraded", "no answer could be graded")):
        if answers and all(answer.failure == kind for answer in answers):
            raise UserError(f"{told}: {answers[0].why}")
    return answers


async def _graded(row: TaskRow, number: int, answer: Answer, grader: Grader) -> GradedAnswer:
    text, failure, why = answer
    if failure is not None:
        return GradedAnswer(row, number, text, 0.0, failure, why)
    try:
        return GradedAnswer(row, number, text, (await grader(graded_task(row), text)).score)
    except GradingError as error:
        return GradedAnswer(row, number, text, 0.0, "ungraded", str(error))
    except Exception as error:  # a verifier's own fault: the other answers go on, and this one says what happened
        return GradedAnswer(row, number, text, 0.0, "ungraded", f"{type(error).__name__}: {error}")


@dataclass(frozen=True)
class Likelihood:
    row: StandardRow
    nll: float
    """Nats per token that has to be produced."""
    tokens: float


async def _likelihoods(
    sampler: tinker.SamplingClient, rows: Sequence[StandardRow], renderer: Renderer, slots: asyncio.Semaphore
) -> list[Likelihood]:
    data_D = []
    for row in rows:
        assert isinstance(row, ChatRow)
        with naming(row):
            example = renderer.build_supervised_example(row.messages, TrainOnWhat.LAST_ASSISTANT_TURN, tools=row.tools)
            data_D.append(supervised_datum(*example, mean=False))
    found = []
    for row, datum, logprobs in zip(rows, data_D, await target_logprobs(sampler, data_D, slots), strict=True):
        weights = floats(datum.loss_fn_inputs["weights"]).astype(np.float64)
        total = float(weights.sum())
        if total == 0:
            raise UserError(f"{row.place}: the answer has no tokens to be judged by")
        found.append(Likelihood(row, -float(weights @ logprobs.astype(np.float64)) / total, total))
    return found


@dataclass(frozen=True)
class ScoredPair:
    row: StandardRow
    chosen: float
    """The log-likelihood of the whole answer, in nats."""
    rejected: float


async def _pairs(
    sampler: tinker.SamplingClient, rows: Sequence[StandardRow], renderer: Renderer, slots: asyncio.Semaphore
) -> list[ScoredPair]:
    data_D = []
    for row in rows:
        assert isinstance(row, PreferenceRow)
        for answer in (row.chosen, row.rejected):
            with naming(row):
                told = [*row.prompt, *answer]
                example = renderer.build_supervised_example(told, TrainOnWhat.LAST_ASSISTANT_TURN)
                data_D.append(supervised_datum(*example, mean=False))
    sums = [
        float(floats(datum.loss_fn_inputs["weights"]).astype(np.float64) @ logprobs.astype(np.float64))
        for datum, logprobs in zip(data_D, await target_logprobs(sampler, data_D, slots), strict=True)
    ]
    return [
        ScoredPair(row, chosen, rejected) for row, chosen, rejected in zip(rows, sums[0::2], sums[1::2], strict=True)
    ]


def summary(
    rows: MeasuredRows,
    answers: Sequence[GradedAnswer],
    likelihoods: Sequence[Likelihood],
    pairs: Sequence[ScoredPair],
    *,
    step: int,
    usage: Any = None,
) -> Measurement:
    """Every metric: one number for each task, and their weighted mean."""
    by_task: dict[str, list[GradedAnswer]] = {}
    for answer in answers:
        by_task.setdefault(answer.row.id, []).append(answer)
    graded = [
        (given[0].row, TaskScores(task, [one.score for one in given], 1.0, given[0].row.facts))
        for task, given in by_task.items()
    ]
    likely = [(one.row, TaskScores(one.row.id, [one.nll], one.tokens, one.row.facts)) for one in likelihoods]
    preferred = [(one.row, TaskScores(one.row.id, [one.chosen, one.rejected], 1.0, one.row.facts)) for one in pairs]
    by_kind: dict[str, Sequence[tuple[StandardRow, TaskScores]]] = {}
    by_kind |= {"answers": graded, "likelihood": likely, "preferences": preferred}
    metrics: dict[str, float] = {}
    tasks: dict[str, list[TaskResult]] = {}
    for name, metric in rows.metrics.items():
        found = by_kind[metric.measures]
        if not found:  # a model that only answers has no likelihoods
            continue
        tasks[name] = [_result(metric, row, scores) for row, scores in found]
        weights = [one.weight for one in tasks[name]]
        values = [one.number for one in tasks[name]]
        metrics[name] = float(np.dot(values, weights) / np.sum(weights))
        if not math.isfinite(metrics[name]):
            raise UserError(f"{name} is {metrics[name]}: training has probably diverged; lower the learning rate")
    failures = Counter(answer.failure for answer in answers if answer.failure)
    told = {} if usage is None else {"usage": usage}
    return Measurement(step=step, metrics=metrics, tasks=tasks, failures=dict(failures), **told)


def _result(metric: Metric[Any], row: StandardRow, scores: TaskScores) -> TaskResult:
    cluster = row.cluster if isinstance(row, TaskRow) else ""
    return TaskResult(
        task=scores.task,
        cluster=cluster,
        values=list(scores.values),
        value=metric.task_value(scores),
        weight=scores.weight,
    )
