"""A student learns a teacher's whole distribution from answers that say only one word of it."""

import asyncio
import math
from pathlib import Path

import numpy as np
import pytest
import tinker
from transformers import PreTrainedTokenizerBase

from hone.algorithms import sft
from hone.algorithms.config import ModelConfig, OptimizerConfig
from hone.algorithms.datums import supervised_datum
from hone.algorithms.distill.lessons import ONLY, Lesson
from hone.algorithms.distill.off_policy import SoftTargets
from hone.algorithms.distill.teachers import answer_logprobs, soft_answer
from hone.errors import UserError

WORDS = "apples birds boats cats chairs cows cups dogs doors eggs fish flags".split()


@pytest.fixture(scope="module")
def prompts(tokenizer: PreTrainedTokenizerBase) -> list[tuple[int, ...]]:
    return [
        tuple(
            tokenizer.encode(
                f"<|im_start|>user\nDo you like {word}?<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False
            )
        )
        for word in WORDS
    ]


@pytest.fixture(scope="module")
def verdicts(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    yes, no = (tokenizer.encode(word, add_special_tokens=False)[0] for word in ("yes", "no"))
    return yes, no


@pytest.fixture(scope="module")
def teacher(
    service: tinker.ServiceClient, model: str, prompts: list[tuple[int, ...]], verdicts: tuple[int, int]
) -> tinker.SamplingClient:
    """Says yes three times as often as no."""
    examples = [
        supervised_datum(tinker.ModelInput.from_ints([*prompt, verdict]), [0.0] * len(prompt) + [1.0])
        for prompt in prompts
        for verdict in (verdicts[0],) * 3 + (verdicts[1],)
    ]
    training = service.create_lora_training_client(model, rank=8, seed=1).result()
    for _ in range(30):
        gradient = training.forward_backward(examples, "cross_entropy")
        training.optim_step(tinker.AdamParams(learning_rate=3e-3)).result()
        gradient.result()
    return training.save_weights_and_get_sampling_client().result()


def student_config(model: str) -> sft.SftConfig:
    return sft.SftConfig(
        model=ModelConfig(name=model, lora_rank=8, seed=2),
        optimizer=OptimizerConfig(learning_rate=3e-3),
        batch_size=8,
        epochs=25,
        eval_every=0,
    )


def test_the_student_learns_how_sure_the_teacher_is(
    service: tinker.ServiceClient,
    model: str,
    teacher: tinker.SamplingClient,
    prompts: list[tuple[int, ...]],
    verdicts: tuple[int, int],
    tmp_path: Path,
) -> None:
    # Every answer says yes: hard targets would teach certainty.
    lessons = [Lesson(prompt, answer=(verdicts[0],)) for prompt in prompts[:8]]
    last = asyncio.run(
        sft.train(student_config(model), service, lessons, tmp_path, prepare=SoftTargets({ONLY: teacher}, candidates=8))
    )
    student = service.create_sampling_client(model_path=last.sampler_path).result()

    async def probability(sampler: tinker.SamplingClient, prompt: tuple[int, ...]) -> float:
        return math.exp((await answer_logprobs(sampler, prompt, [verdicts[0]]))[0])

    for prompt in prompts[8:]:
        assert asyncio.run(probability(teacher, prompt)) == pytest.approx(0.75, abs=0.12)
        assert asyncio.run(probability(student, prompt)) == pytest.approx(
            asyncio.run(probability(teacher, prompt)), abs=0.12
        )


def test_soft_targets_are_the_teachers_probabilities(
    teacher: tinker.SamplingClient, prompts: list[tuple[int, ...]], verdicts: tuple[int, int]
) -> None:
    answer = [verdicts[0], verdicts[1]]
    soft = asyncio.run(soft_answer(teacher, prompts[0], answer, candidates=4))
    assert soft.probabilities_AK.sum(axis=1) == pytest.approx([1.0, 1.0])
    exact = asyncio.run(answer_logprobs(teacher, prompts[0], answer))
    rank = list(soft.tokens_AK[0]).index(verdicts[0])
    # Renormalised over four candidates: not below the exact probability, and close to it where four hold nearly all.
    assert math.exp(exact[0]) <= soft.probabilities_AK[0, rank] <= math.exp(exact[0]) + 0.1
    assert np.all(soft.entropy_A >= 0)


def test_lessons_are_checked_before_anything_is_trained(
    teacher: tinker.SamplingClient, prompts: list[tuple[int, ...]]
) -> None:
    with pytest.raises(UserError, match="lesson 1 has no answer"):
        SoftTargets({ONLY: teacher}).check([Lesson(prompts[0], answer=(1,)), Lesson(prompts[1])])
    with pytest.raises(UserError, match="lesson 0 names the teacher 'big'; there are teacher"):
        SoftTargets({ONLY: teacher}).check([Lesson(prompts[0], answer=(1,), teacher="big")])
