"""Students learn from teachers: a prompt goes into the weights, a distribution is met on the student's own answers."""

import asyncio
import itertools
import json
import math
from pathlib import Path

import pytest
import tinker
from transformers import PreTrainedTokenizerBase

from hone.algorithms import sft
from hone.algorithms.config import CheckpointConfig, ModelConfig, OptimizerConfig
from hone.algorithms.datums import supervised_datum
from hone.algorithms.distill import on_policy
from hone.algorithms.distill.lessons import ONLY, Lesson
from hone.algorithms.distill.prompt import answer_lessons, student_datums
from hone.algorithms.distill.teachers import answer_logprobs
from hone.errors import UserError
from tests.support.fake_tinker import MODEL, FakeService
from tests.support.interruptions import Crash, CrashAt

WORDS = "apples birds boats cats chairs cows cups dogs doors eggs fish flags".split()


@pytest.fixture(scope="module")
def encode(tokenizer: PreTrainedTokenizerBase):  # type: ignore[no-untyped-def]
    return lambda text: tuple(tokenizer.encode(text, add_special_tokens=False))


@pytest.fixture(scope="module")
def prompts(encode) -> list[tuple[int, ...]]:  # type: ignore[no-untyped-def]
    return [encode(f"<|im_start|>user\nDo you like {word}?<|im_end|>\n<|im_start|>assistant\n") for word in WORDS]


@pytest.fixture(scope="module")
def teacher(  # type: ignore[no-untyped-def]
    service: tinker.ServiceClient, model: str, prompts: list[tuple[int, ...]], encode
) -> tinker.SamplingClient:
    """Answers yes."""
    answer = encode("yes<|im_end|>")
    examples = [
        supervised_datum(tinker.ModelInput.from_ints([*prompt, *answer]), [0.0] * len(prompt) + [1.0] * len(answer))
        for prompt in prompts
    ]
    training = service.create_lora_training_client(model, rank=8, seed=1).result()
    for _ in range(20):
        gradient = training.forward_backward(examples, "cross_entropy")
        training.optim_step(tinker.AdamParams(learning_rate=3e-3)).result()
        gradient.result()
    return training.save_weights_and_get_sampling_client().result()


@pytest.fixture(scope="module")
def sums(encode) -> list[Lesson]:  # type: ignore[no-untyped-def]
    """Subtractions, right about every second time; the teacher only has to copy the result."""
    lessons = []
    for a, b in itertools.product((52, 61, 73, 84), (17, 25, 36, 48)):
        asked, told = (
            encode(f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n")
            for text in (f"What is {a} - {b}?", f"Copy this: {a - b}")
        )
        lessons.append(Lesson(asked, teacher_prompt=told, answer=encode(f"{a - b}<|im_end|>")))
    return lessons


def right(sampler: tinker.SamplingClient, lessons: list[Lesson]) -> float:
    """The mean probability of the right answer, without help."""

    async def probability(lesson: Lesson) -> float:
        return math.exp((await answer_logprobs(sampler, lesson.prompt, lesson.answer)).sum())

    return sum(asyncio.run(probability(lesson)) for lesson in lessons) / len(lessons)


def config(model: str, **changes: object) -> on_policy.OnPolicyConfig:
    settings: dict[str, object] = {
        "model": ModelConfig(name=model, lora_rank=8, seed=2),
        "optimizer": OptimizerConfig(learning_rate=3e-3),
        "checkpoints": CheckpointConfig(every=2),
        "batch_size": 4,
        "group_size": 4,
        "max_tokens": 4,
        "epochs": 5,
        "eval_every": 3,
    }
    return on_policy.OnPolicyConfig(**{**settings, **changes})  # type: ignore[arg-type]


def rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("from_itself", [False, True], ids=["from another", "from itself"])
def test_the_student_comes_to_know_what_the_teacher_was_told(
    service: tinker.ServiceClient,
    model: str,
    sums: list[Lesson],
    tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
    from_itself: bool,
) -> None:
    base = service.create_sampling_client(base_model=model).result()
    settings = config(model, batch_size=16, epochs=8, teach_self_every=4 if from_itself else 0)
    teachers = {} if from_itself else {ONLY: base}
    last = asyncio.run(
        on_policy.train(settings, service, sums, teachers, tmp_path, stop_condition=[tokenizer.eos_token_id])
    )
    found = rows(tmp_path)
    assert all(abs(row["optim/kl_sample_train_v1"]) < 1e-5 for row in found), "every step is on-policy"
    assert found[-1]["teacher_kl"] < 0.5 * found[0]["teacher_kl"]
    student = service.create_sampling_client(model_path=last.sampler_path).result()
    assert 0.2 < right(base, sums) < 0.7
    assert right(student, sums) > right(base, sums) + 0.2


def test_a_run_that_was_cut_off_goes_on_to_the_same_numbers(
    service: tinker.ServiceClient,
    model: str,
    teacher: tinker.SamplingClient,
    prompts: list[tuple[int, ...]],
    tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
) -> None:
    settings, lessons = config(model, epochs=3), [Lesson(prompt) for prompt in prompts]
    stop = [tokenizer.eos_token_id]

    def run(name: str, **options: object) -> None:
        asyncio.run(
            on_policy.train(
                settings,
                service,
                lessons,
                {ONLY: teacher},
                tmp_path / name,
                stop_condition=stop,
                **options,  # type: ignore[arg-type]
            )
        )

    run("whole")
    with pytest.raises(Crash):
        run("cut", evaluators=[CrashAt(2)])
    run("cut")
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


def test_a_prompt_goes_into_the_weights(
    service: tinker.ServiceClient,
    model: str,
    prompts: list[tuple[int, ...]],
    encode,  # type: ignore[no-untyped-def]
    tokenizer: PreTrainedTokenizerBase,
    teacher: tinker.SamplingClient,
    tmp_path: Path,
) -> None:
    stop = [tokenizer.eos_token_id]
    lessons = [Lesson(prompt, teacher_prompt=encode("Yes, yes.\n") + prompt) for prompt in prompts[:8]]
    answered = asyncio.run(
        answer_lessons(
            lessons,
            {ONLY: teacher},
            stop=stop,
            max_tokens=4,
            attempts=4,
            accept=lambda lesson, answer: tokenizer.decode(answer.tokens).startswith("yes"),
        )
    )
    assert len(answered.lessons) >= 6
    assert all(lesson.answer[-1] == tokenizer.eos_token_id for lesson in answered.lessons)
    settings = sft.SftConfig(
        model=ModelConfig(name=model, lora_rank=8, seed=2),
        optimizer=OptimizerConfig(learning_rate=3e-3),
        batch_size=8,
        epochs=20,
        eval_every=0,
    )
    last = asyncio.run(sft.train(settings, service, student_datums(answered.lessons), tmp_path))
    student = service.create_sampling_client(model_path=last.sampler_path).result()
    yes = tokenizer.encode("yes", add_special_tokens=False)
    for prompt in prompts[8:]:
        assert math.exp(asyncio.run(answer_logprobs(student, prompt, yes))[0]) > 0.8


def test_who_teaches_must_be_said(
    service: tinker.ServiceClient, model: str, teacher: tinker.SamplingClient, tmp_path: Path
) -> None:
    for teachers, every in (({}, 0), ({ONLY: teacher}, 5)):
        with pytest.raises(UserError, match="give either `teachers` or `teach_self_every`"):
            asyncio.run(
                on_policy.train(
                    config(model, teach_self_every=every),
                    service,
                    [Lesson((1,))],
                    teachers,
                    tmp_path / "run",
                    stop_condition=[2],
                )
            )


@pytest.mark.parametrize(("lessons", "problem"), [([], "`lessons` is empty"), ([Lesson(())], "empty prompt")])
def test_a_student_that_teaches_itself_needs_lessons_too(lessons: list[Lesson], problem: str, tmp_path: Path) -> None:
    settings = config(MODEL, teach_self_every=5)
    with pytest.raises(UserError, match=problem):
        asyncio.run(on_policy.train(settings, FakeService(), lessons, {}, tmp_path / "run", stop_condition=[0]))  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()
