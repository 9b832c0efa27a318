"""What a sample request may ask, and its streams of random numbers."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hone.engine.contract import Sample
from hone.engine.models.load import LoadedModel
from hone.engine.sampling.request import check_sample
from hone.engine.sampling.streams import uniform_stream
from hone.errors import UserError
from hone.protocol.types import PromptTargets, SamplingParams
from tests.unit.engine.material import VOCAB

CONTEXT = 256


def sample(prompt_length: int = 10, **changes: Any) -> Sample:
    params = SamplingParams(**{k: v for k, v in changes.items() if k in SamplingParams.__dataclass_fields__})
    others = {k: v for k, v in changes.items() if k not in SamplingParams.__dataclass_fields__}
    return replace(Sample("base", None, np.zeros(prompt_length, np.int32), 1, params, 0), **others)


def targets(token: int) -> PromptTargets:
    return PromptTargets(np.zeros(2, np.int64), np.array([0, token]))


@pytest.mark.parametrize(
    ("prompt_length", "max_tokens", "capacity", "wanted"),
    [
        (10, 5, 1000, 5),
        (10, None, 1000, 246),
        (255, None, 1000, 1),
        (10, None, 64, 54),
        (10, 246, 1000, 246),
        (10, 247, 1000, 246),
        (10, 10**9, 64, 54),
    ],
)
def test_max_tokens_is_a_limit_and_the_context_another(
    prompt_length: int, max_tokens: int | None, capacity: int, wanted: int, qwen3: LoadedModel
) -> None:
    assert check_sample(sample(prompt_length, max_tokens=max_tokens), qwen3, capacity) == wanted


@pytest.mark.parametrize(
    ("op", "named"),
    [
        (sample(0, max_tokens=1), "prompt is empty"),
        (sample(CONTEXT), "prompt has 256 tokens"),
        (sample(10, max_tokens=0), "max_tokens must be at least 1"),
        (sample(10, max_tokens=-1), "max_tokens must be at least 1"),
        (sample(prompt=np.array([1, VOCAB], np.int32)), f"token {VOCAB}"),
        (sample(prompt=np.array([-1, 2], np.int32)), "token -1"),
        (sample(num_samples=0), "num_samples"),
        (sample(temperature=-0.1), "temperature"),
        (sample(temperature=math.nan), "temperature"),
        (sample(temperature=math.inf), "temperature"),
        (sample(top_p=0.0), "top_p"),
        (sample(top_p=1.1), "top_p"),
        (sample(top_p=math.nan), "top_p"),
        (sample(top_k=0), "top_k"),
        (sample(top_k=-2), "top_k"),
        (sample(topk_prompt_logprobs=VOCAB + 1), "topk_prompt_logprobs"),
        (sample(topk_sample_logprobs=-1), "topk_sample_logprobs"),
        (sample(target_prompt_logprobs=targets(VOCAB)), f"token {VOCAB}"),
        (sample(target_prompt_logprobs=targets(-2)), "token -2"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(op: Sample, named: str, qwen3: LoadedModel) -> None:
    with pytest.raises(UserError, match=named):
        check_sample(op, qwen3, 1000)


def test_a_prompt_that_never_fits_the_cache_is_refused(qwen3: LoadedModel) -> None:
    assert check_sample(sample(63, max_tokens=9), qwen3, 64) == 1
    with pytest.raises(UserError, match=r"64 tokens; .* key-value cache of 64 tokens"):
        check_sample(sample(64, max_tokens=9), qwen3, 64)


def test_streams_repeat_and_differ() -> None:
    def first(seed: int, index: int) -> list[float]:
        return list(map(float, uniform_stream(seed, index).random(8)))

    assert first(5, 3) == first(5, 3)
    different = [first(seed, index) for seed in (0, 1, 2, -1, 2**40, 2**63 - 1) for index in range(4)]
    assert len({tuple(x) for x in different}) == len(different)
    together = np.concatenate([uniform_stream(7, i).random(500) for i in range(20)])
    assert abs(together.mean() - 0.5) < 0.01
    assert 0 <= together.min() < together.max() < 1
