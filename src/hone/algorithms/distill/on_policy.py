"""On-policy distillation: the student answers, and the teacher says of every token how likely it would have been.

Minimises the reverse KL(student || teacher) on the student's own answers: the advantage of a token is minus the
difference of its two log-probabilities (Agarwal et al. 2023, arXiv 2306.13649; Thinking Machines, "On-Policy
Distillation", 2025). With a teacher prompt that holds the solution it is self-distillation with privileged context.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tinker
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from hone.algorithms.config import OptimizerConfig, TrainingConfig
from hone.algorithms.data_order import DataOrder
from hone.algorithms.datums import Floats, PolicyDatum, policy_datums
from hone.algorithms.distill.lessons import Lesson, Teachers, check_lessons
from hone.algorithms.distill.teachers import answer_logprobs
from hone.algorithms.evaluation import Evaluator, evaluate
from hone.algorithms.frozen_weights import frozen_sampler
from hone.algorithms.learning_rate import rate_at
from hone.algorithms.rl.kl import discounted_sums, sample_train_kl
from hone.algorithms.rl.policy import Policy, sample_seed
from hone.algorithms.run_directory import Checkpoint, MetricSink
from hone.algorithms.steps import adam_params, submit_step
from hone.algorithms.training_session import begin, highest_rate, is_due, training_session
from hone.algorithms.types import Observation, SampledTokens, StopCondition, Trajectory, Transition
from hone.errors import UserError
from hone.observe.progress import Display, silent


class OnPolicyConfig(TrainingConfig):
    optimizer: OptimizerConfig = OptimizerConfig()
    batch_size: PositiveInt = 16
    """Lessons in a step."""
    group_size: PositiveInt = 4
    """Answers to each."""
    max_tokens: PositiveInt = 256
    """Tokens of one answer, at most."""
    coefficient: PositiveFloat = 1.0
    """Advantage taken per nat of reverse KL."""
    discount: float = Field(default=0.0, ge=0, le=1)
    """Above 0, a token also answers for the divergence of the tokens after it."""
    epochs: PositiveInt = 1
    max_steps: PositiveInt | None = None
    seed: int = 0
    """Draws the order of the lessons and the answers."""
    shuffle: bool = True
    """Otherwise each epoch has the lessons in the order in which they are given."""
    concurrency: PositiveInt = 256
    """Requests under way at once."""
    eval_every: NonNegativeInt = 10
    """Steps between evaluations, which see the weights before the step; 0 for none."""
    teach_self_every: NonNegativeInt = 0
    """Above 0 the student is its own teacher, as it was at the last multiple of so many steps."""


async def train(
    config: OnPolicyConfig,
    service: tinker.ServiceClient,
    lessons: Sequence[Lesson],
    teachers: Teachers,
    run_dir: Path,
    *,
    stop_condition: StopCondition,
    evaluators: Sequence[Evaluator] = (),
    hidden_size: int | None = None,
    sinks: Sequence[MetricSink] = (),
    display: Display = silent,
) -> Checkpoint:
    """Train on the prompts of `lessons` and return the last checkpoint. An interrupted run goes on to the same numbers.

    Teachers must share the student's tokenizer: they score its very tokens.
    """
    if bool(teachers) == bool(config.teach_self_every):
        raise UserError("give either `teachers` or `teach_self_every`: the student learns from others or from itself")
    check_lessons(lessons, teachers or None, answered=False)
    order = DataOrder(len(lessons), config.batch_size, config.epochs, config.seed, config.shuffle)
    total_steps = min(order.steps, config.max_steps or order.steps)
    highest = highest_rate(config.optimizer, config.model.name, hidden_size)
    slots = asyncio.Semaphore(config.concurrency)

    with training_session(run_dir, config, "on-policy distillation", total_steps, sinks, display) as session:
        if session.finished:
            return session.last
        training = await begin(service, config.model, session.run)
        for step in session.steps:
            if config.teach_self_every:
                since = step - step % config.teach_self_every
                itself = await frozen_sampler(service, training, session.run, f"teacher-{since:06d}")
                teachers = {lesson.teacher: itself for lesson in lessons}
            measures = await evaluate(training, evaluators, step) if is_due(config.eval_every, step) else {}
            student = await training.save_weights_and_get_sampling_client()
            policy = Policy(student, config.max_tokens, slots=slots)
            rows = order.batch(step)
            answers_PG = await asyncio.gather(
                *(
                    _answers(policy, lessons[row], stop_condition, config, sample_seed(config.seed, step, row))
                    for row in rows
                )
            )
            scored_D = await asyncio.gather(
                *(
                    score_answer(lessons[row], answer, teachers, config, slots)
                    for row, answers_G in zip(rows, answers_PG, strict=True)
                    for answer in answers_G
                    if answer.tokens
                )
            )
            rate = rate_at(config.optimizer, highest, step, total_steps)
            data_D = [scored.policy_datum for scored in scored_D]
            logprobs_D: list[Floats] = []
            if data_D:  # else every answer was empty, and there is nothing to learn from
                training_D = [item.datum for item in data_D]
                adam = adam_params(config.optimizer, rate)
                submitted = submit_step(training, training_D, "importance_sampling", adam)
                logprobs_D = (await submitted.result()).logprobs_D
            metrics = measures | {
                "epoch": order.epoch(step),
                "progress": (step + 1) / total_steps,
                "learning_rate": rate,
                "num_sequences": len(data_D),
                "num_tokens": sum(item.datum.model_input.length for item in data_D),
                **_divergence(scored_D),
                **sample_train_kl(data_D, logprobs_D),
            }
            session.log(step, metrics, f"teacher kl {metrics['teacher_kl']:.3f}")
            await session.save_if_due(training, step)
            if session.stopped:
                return session.last
        measures = await evaluate(training, evaluators, total_steps) if config.eval_every else {}
        return await session.finish(training, measures)


@dataclass(frozen=True)
class ScoredAnswer:
    """What the student said, and how far each of its tokens is from what the teacher would have said."""

    teacher: str
    policy_datum: PolicyDatum
    divergence_A: Floats
    """log student - log teacher of each token, in nats: its mean estimates the reverse KL."""


async def _answers(
    policy: Policy, lesson: Lesson, stop: StopCondition, config: OnPolicyConfig, seed: int
) -> Sequence[SampledTokens]:
    prompt = tinker.ModelInput.from_ints(list(lesson.prompt))
    return await policy.answers(Observation(prompt, stop), config.group_size, seed)


async def score_answer(
    lesson: Lesson, answer: SampledTokens, teachers: Teachers, config: OnPolicyConfig, slots: asyncio.Semaphore
) -> ScoredAnswer:
    async with slots:
        teacher_A = await answer_logprobs(teachers[lesson.teacher], lesson.seen_by_teacher, answer.tokens)
    divergence_A = np.array(answer.logprobs, dtype=np.float32) - teacher_A
    advantages_A = -config.coefficient * divergence_A
    if config.discount:
        advantages_A = discounted_sums(advantages_A, config.discount)
    prompt = tinker.ModelInput.from_ints(list(lesson.prompt))
    (datum,) = policy_datums(Trajectory([Transition(prompt, answer, 0.0)], prompt), 0.0)
    advantages_T = np.zeros_like(datum.mask_T)
    advantages_T[len(lesson.prompt) - 1 :] = advantages_A
    return ScoredAnswer(lesson.teacher, datum.with_advantages(advantages_T), divergence_A)


def _divergence(scored_D: Sequence[ScoredAnswer]) -> dict[str, float]:
    """The mean over all tokens, and of each teacher's where there are several."""
    by_teacher: dict[str, list[Floats]] = {}
    for scored in scored_D:
        by_teacher.setdefault(scored.teacher, []).append(scored.divergence_A)
    metrics = {"teacher_kl": _mean([row for rows in by_teacher.values() for row in rows])}
    if len(by_teacher) > 1:
        metrics |= {f"teacher_kl/{name}": _mean(rows) for name, rows in by_teacher.items()}
    return metrics


def _mean(rows: Sequence[Floats]) -> float:
    return float(np.concatenate(rows).mean(dtype=np.float64)) if rows else float("nan")
