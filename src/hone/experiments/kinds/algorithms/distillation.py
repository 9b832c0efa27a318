"""Learning from a teacher: its distribution over given answers, its judgement of the student's own, or its prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from hone.algorithms.config import Config
from hone.errors import UserError
from hone.experiments.data.rows import ChatRow, TaskRow
from hone.experiments.kinds.algorithms.params import SampledParams, SupervisedParams, beginning, shuffled, watched
from hone.experiments.kinds.contract import Algorithm, Training

if TYPE_CHECKING:
    import tinker

    from hone.algorithms.distill.lessons import Lesson
    from hone.algorithms.messages import Message
    from hone.algorithms.run_directory import Checkpoint

LESSONS = "lessons.jsonl"
"""In the run's directory: what the teacher said, so that a run that goes on learns the same."""


class TeacherParams(Config):
    """Who teaches."""

    teacher: str | None = None
    """A base model, or sampler weights (`tinker://...`), with the student's tokenizer; without it the student's base
    model."""
    teacher_prompt: str | None = None
    """A system message that only the teacher sees."""


class OffPolicyParams(TeacherParams, SupervisedParams):
    candidates: PositiveInt = Field(default=20, le=20)
    """The teacher's likeliest tokens that are kept at each place."""


class DistillOffPolicy(Algorithm[OffPolicyParams]):
    """On given answers, match the teacher's distribution over each token (Hinton et al. 2015, arXiv 1503.02531)."""

    Params = OffPolicyParams
    learns_from = "chat"

    def steps(self, rows: int) -> int:
        return self.params.steps(rows)

    async def train(self, training: Training) -> Checkpoint:
        from hone.algorithms import sft
        from hone.algorithms.distill.lessons import ONLY, Lesson
        from hone.algorithms.distill.off_policy import SoftTargets
        from hone.experiments.kinds.algorithms.examples import prompt_and_answer

        lessons = []
        for row in training.rows:
            assert isinstance(row, ChatRow)
            asked, said = _parted(row)
            prompt, answer = prompt_and_answer(training.renderer, asked, said, row)
            seen: list[int] = []
            if self.params.teacher_prompt:
                seen, again = prompt_and_answer(training.renderer, [*_before(self.params), *asked], said, row)
                if again != answer:
                    raise UserError(f"{row.place}: the answer has other tokens after the teacher's prompt")
            lessons.append(Lesson(tuple(prompt), tuple(seen), tuple(answer)))
        targets = SoftTargets({ONLY: await _teacher(training, self.params)}, self.params.candidates)
        targets.check(lessons)
        config = sft.SftConfig(
            **beginning(training, self.params), batch_size=self.params.batch_size, shuffle=shuffled(training)
        )
        return await sft.train(
            config, training.service, lessons, training.run_dir, prepare=targets, **watched(training)
        )


class OnPolicyParams(TeacherParams, SampledParams):
    group_size: PositiveInt = 4
    """Answers to each prompt."""
    coefficient: PositiveFloat = 1.0
    """Advantage taken per nat of reverse KL."""
    discount: float = Field(default=0.0, ge=0, le=1)
    """Above 0, a token also answers for the divergence of the tokens after it."""


class DistillOnPolicy(Algorithm[OnPolicyParams]):
    """The student answers, the teacher scores every token of it (Agarwal et al. 2023, arXiv 2306.13649)."""

    Params = OnPolicyParams
    learns_from = "task"

    def steps(self, rows: int) -> int:
        return self.params.steps(rows)

    async def train(self, training: Training) -> Checkpoint:
        from hone.algorithms.distill import on_policy
        from hone.algorithms.distill.lessons import ONLY

        params = self.params
        config = on_policy.OnPolicyConfig(
            **beginning(training, params),
            batch_size=params.batch_size,
            shuffle=shuffled(training),
            group_size=params.group_size,
            max_tokens=params.max_tokens,
            coefficient=params.coefficient,
            discount=params.discount,
            concurrency=params.concurrency,
        )
        return await on_policy.train(
            config,
            training.service,
            _prompts(training, params),
            {ONLY: await _teacher(training, params)},
            training.run_dir,
            stop_condition=training.renderer.get_stop_sequences(),
            **watched(training),
        )


class PromptDistillParams(TeacherParams, SupervisedParams):
    max_tokens: PositiveInt = 256
    """Tokens of one answer of the teacher, at most."""
    temperature: NonNegativeFloat = 1.0
    """Of the teacher's answers."""
    attempts: PositiveInt = 2
    """Answers asked for to each prompt; the first that ended is learned."""


class PromptDistill(Algorithm[PromptDistillParams]):
    """The teacher answers with its prompt, the student learns the answers without it (Askell et al. 2021, arXiv
    2112.00861, section 2.1). A prompt to which no answer ended is left out."""

    Params = PromptDistillParams
    learns_from = "task"

    def steps(self, rows: int) -> int:
        return self.params.steps(rows)

    async def train(self, training: Training) -> Checkpoint:
        from hone.algorithms import sft
        from hone.algorithms.distill.prompt import student_datums

        lessons = await self._lessons(training)
        config = sft.SftConfig(
            **beginning(training, self.params), batch_size=self.params.batch_size, shuffle=shuffled(training)
        )
        return await sft.train(config, training.service, student_datums(lessons), training.run_dir, **watched(training))

    async def _lessons(self, training: Training) -> list[Lesson]:
        """Each asked once for a run."""
        from hone.algorithms.distill.lessons import ONLY
        from hone.algorithms.distill.prompt import answer_lessons

        answered = await answer_lessons(
            _prompts(training, self.params),
            {ONLY: await _teacher(training, self.params)},
            stop=training.renderer.get_stop_sequences(),
            max_tokens=self.params.max_tokens,
            temperature=self.params.temperature,
            attempts=self.params.attempts,
            seed=training.run.seed,
            concurrency=self.params.concurrency,
            file=training.run_dir / LESSONS,
            display=training.display,
        )
        if not answered.lessons:
            raise UserError(f"none of {answered.refused} answers of the teacher ended; raise `max_tokens`")
        return answered.lessons


async def _teacher(training: Training, params: TeacherParams) -> tinker.SamplingClient:
    name = params.teacher or training.run.model.name
    told: dict[str, Any] = {"model_path" if str(name).startswith("tinker://") else "base_model": name}
    teacher: tinker.SamplingClient = await training.service.create_sampling_client(**told)
    return teacher


def _before(params: TeacherParams) -> list[Message]:
    return [{"role": "system", "content": params.teacher_prompt}] if params.teacher_prompt else []


def _prompts(training: Training, params: TeacherParams) -> list[Lesson]:
    from hone.algorithms.distill.lessons import Lesson
    from hone.experiments.kinds.algorithms.examples import prompt_tokens

    lessons = []
    for row in training.rows:
        assert isinstance(row, TaskRow)
        seen = prompt_tokens(training.renderer, row, _before(params)) if params.teacher_prompt else []
        lessons.append(Lesson(tuple(prompt_tokens(training.renderer, row)), tuple(seen)))
    return lessons


def _parted(row: ChatRow) -> tuple[list[Message], list[Message]]:
    """What was asked, and the last turn of the assistant."""
    users = [place for place, message in enumerate(row.messages) if message["role"] != "assistant"]
    cut = users[-1] + 1 if users else 0
    return list(row.messages[:cut]), list(row.messages[cut:])
