"""Advantages of on-policy distillation, by hand and against the cookbook's on the same answers."""

import asyncio
import math
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
import tinker

from hone.algorithms.config import ModelConfig
from hone.algorithms.distill.lessons import ONLY, Lesson
from hone.algorithms.distill.on_policy import OnPolicyConfig, ScoredAnswer, score_answer
from hone.algorithms.types import SampledTokens


class Answered:
    """As the SDK's future: awaited, or asked for its coroutine."""

    def __init__(self, scores: list[float | None]) -> None:
        self._scores = scores

    async def coroutine(self) -> list[float | None]:
        return self._scores

    def __await__(self) -> Generator[None, None, list[float | None]]:
        return self.coroutine().__await__()


class FixedTeacher:
    """Finds token k as likely as exp(-k / 10), whatever came before it."""

    def compute_logprobs(self, sequence: tinker.ModelInput) -> Answered:
        return Answered([None, *(-token / 10 for token in sequence.to_ints()[1:])])


ANSWER = SampledTokens([7, 2, 9], [-0.1, -0.6, -0.9], "stop")


def score(lesson: Lesson, **settings: float) -> ScoredAnswer:
    config = OnPolicyConfig(model=ModelConfig(name="m"), **settings)  # type: ignore[arg-type]
    teachers: Any = {ONLY: FixedTeacher()}
    return asyncio.run(score_answer(lesson, ANSWER, teachers, config, asyncio.Semaphore(1)))


def test_a_token_is_praised_by_how_much_likelier_the_teacher_finds_it() -> None:
    scored = score(Lesson((5, 6)), coefficient=2.0)
    assert scored.divergence_A == pytest.approx([-0.1 + 0.7, -0.6 + 0.2, -0.9 + 0.9], abs=1e-6)
    assert scored.policy_datum.advantages_T == pytest.approx([0, -1.2, 0.8, 0], abs=1e-6)
    assert scored.policy_datum.mask_T.tolist() == [0, 1, 1, 1]


def test_the_teacher_may_see_another_prompt() -> None:
    helped = score(Lesson((5, 6), teacher_prompt=(1, 2, 3, 4, 5, 6)))
    assert helped.divergence_A == pytest.approx(score(Lesson((5, 6))).divergence_A)
    assert helped.policy_datum.datum.model_input.to_ints() == [5, 6, 7, 2]


def test_a_discount_makes_tokens_answer_for_what_follows() -> None:
    scored = score(Lesson((5, 6)), discount=0.5)
    own = [-0.6, 0.4, 0.0]
    expected = [own[0] + 0.5 * own[1] + 0.25 * own[2], own[1] + 0.5 * own[2], own[2]]
    assert scored.policy_datum.advantages_T[1:] == pytest.approx(expected, abs=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("discount", [0.0, 0.9])
def test_it_is_the_cookbooks(discount: float) -> None:
    cookbook = pytest.importorskip("tinker_cookbook.distillation.train_on_policy")
    scored = score(Lesson((5, 6)), coefficient=1.5, discount=discount)
    inputs = scored.policy_datum.datum.loss_fn_inputs
    theirs = tinker.Datum(
        model_input=scored.policy_datum.datum.model_input,
        loss_fn_inputs={
            "target_tokens": inputs["target_tokens"],
            "logprobs": inputs["logprobs"],
            "advantages": tinker.TensorData.from_numpy(np.zeros(4, dtype=np.float32)),
            "mask": tinker.TensorData.from_numpy(scored.policy_datum.mask_T),
        },
    )
    metrics = asyncio.run(cookbook.incorporate_kl_penalty([theirs], [FixedTeacher()], [0], 1.5, discount))
    advantages = np.array(theirs.loss_fn_inputs["advantages"].data, dtype=np.float32)
    # The cookbook's discounted sums reach back into the prompt, whose tokens the loss does not count.
    assert scored.policy_datum.advantages_T[1:] == pytest.approx(advantages[1:], abs=1e-6)
    assert math.isclose(metrics["teacher_kl"], float(scored.divergence_A.mean()), abs_tol=1e-6)
