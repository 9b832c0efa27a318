"""Scores of chosen tokens and draws in the place of prompt tokens."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from hone.engine.contract import Sample
from hone.engine.sampling.prompt import PromptScores
from hone.protocol.types import PromptTargets, SampleResult, SamplingParams

V = 7


def logits(rows: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).normal(0, 2, (rows, V)).astype(np.float32))


def scored(logits_PV: torch.Tensor, chunk: int = 100, temperature: float = 1.0, **asked: Any) -> SampleResult:
    length = len(logits_PV)
    op = Sample(
        "base", None, np.arange(length, dtype=np.int32) % V, 1, SamplingParams(temperature=temperature), 5, **asked
    )
    assert PromptScores.wanted(op)
    scores = PromptScores(op)
    for start in range(0, length, chunk):
        scores.add(start, logits_PV[start : start + chunk])
    return SampleResult((), **scores.fields())


TARGETS = PromptTargets(np.array([4, 0, 2, 2, 0]), np.array([6, 1, -1, 3, 1]))
EVERYTHING: dict[str, Any] = {
    "prompt_logprobs": True,
    "topk_prompt_logprobs": 2,
    "target_prompt_logprobs": TARGETS,
    "prompt_alt_tokens": 3,
}


def test_every_cell_is_the_models_log_probability_and_unasked_ones_are_zero() -> None:
    wanted = torch.log_softmax(logits(6), -1)
    found = scored(logits(6), target_prompt_logprobs=TARGETS).target_prompt_logprobs
    assert found is not None
    np.testing.assert_array_equal(found, [wanted[4, 6], wanted[0, 1], 0.0, wanted[2, 3], wanted[0, 1]])


@pytest.mark.parametrize("chunk", [1, 2, 3, 5])
def test_chunks_change_nothing(chunk: int) -> None:
    whole, parts = scored(logits(6), **EVERYTHING), scored(logits(6), chunk, **EVERYTHING)
    np.testing.assert_array_equal(whole.prompt_logprobs, parts.prompt_logprobs)  # type: ignore[arg-type]
    np.testing.assert_array_equal(whole.target_prompt_logprobs, parts.target_prompt_logprobs)  # type: ignore[arg-type]
    for name in ("topk_prompt_logprobs", "prompt_alt_tokens"):
        for a, b in zip(vars(getattr(whole, name)).values(), vars(getattr(parts, name)).values(), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_draws_follow_the_tempered_distribution_and_are_scored_without_temperature(temperature: float) -> None:
    logits_PV = logits(3)
    drawn = scored(logits_PV, temperature=temperature, prompt_alt_tokens=20000).prompt_alt_tokens
    assert drawn is not None
    assert drawn.tokens.shape == drawn.logprobs.shape == (2, 20000)
    for row in range(2):
        counts = Counter(drawn.tokens[row].tolist())
        found = np.array([counts[token] / 20000 for token in range(V)])
        np.testing.assert_allclose(found, torch.softmax(logits_PV[row] / temperature, -1), atol=0.015)
        model = torch.log_softmax(logits_PV[row], -1).numpy()
        np.testing.assert_array_equal(drawn.logprobs[row], model[drawn.tokens[row]])


def test_without_temperature_every_draw_is_the_likeliest() -> None:
    drawn = scored(logits(4), temperature=0.0, prompt_alt_tokens=3).prompt_alt_tokens
    assert drawn is not None
    np.testing.assert_array_equal(drawn.tokens, logits(4)[:3].argmax(-1)[:, None].expand(-1, 3))


def test_a_prompt_of_one_token_has_nothing_to_score() -> None:
    found = scored(logits(1), prompt_logprobs=True, prompt_alt_tokens=2)
    assert np.isnan(found.prompt_logprobs).all()  # type: ignore[arg-type]
    assert found.prompt_alt_tokens is not None
    assert found.prompt_alt_tokens.tokens.shape == (0, 2)
