"""Sections 7.2 and 11.2: questions about the prompt itself, and about the likeliest tokens."""

import numpy as np
import pytest
import tinker
import torch

from tests.contract.material import Material

ONE = tinker.SamplingParams(max_tokens=1, seed=3)


def test_chosen_tokens_are_scored_in_the_layout_that_was_asked(
    base_sampler: tinker.SamplingClient, material: Material
) -> None:
    tokens = material.question()
    ids = torch.full((len(tokens) - 1, 40), -1, dtype=torch.int64)
    ids[:, 0] = torch.tensor(tokens[1:])
    ids[3, 17] = 5
    dense, sparse = tinker.TensorData.from_torch(ids), tinker.TensorData.from_torch_sparse(ids, pad_value=-1)
    assert sparse.sparse_crow_indices is not None
    found = [
        base_sampler.sample(
            material.prompt(), 1, ONE, include_prompt_logprobs=True, target_prompt_logprobs=asked
        ).result()
        for asked in (dense, sparse)
    ]
    for asked, response in zip((dense, sparse), found, strict=True):
        scores = response.target_prompt_logprobs
        assert scores is not None
        assert scores.sparse_crow_indices == asked.sparse_crow_indices
        assert scores.sparse_col_indices == asked.sparse_col_indices
        values = scores.to_torch()
        assert values.shape == ids.shape
        assert (values[ids == -1] == 0).all()
        assert values[:, 0].tolist() == response.prompt_logprobs[1:]
        assert values[3, 17] < 0
    assert torch.equal(*(one.target_prompt_logprobs.to_torch() for one in found))


@pytest.mark.parametrize("rows", [3, 1000])
def test_targets_of_another_length_are_refused(
    base_sampler: tinker.SamplingClient, material: Material, rows: int
) -> None:
    asked = tinker.TensorData.from_torch(torch.ones((rows, 1), dtype=torch.int64))
    with pytest.raises(tinker.RequestFailedError, match="one row for each prompt token") as refusal:
        base_sampler.sample(material.prompt(), 1, ONE, target_prompt_logprobs=asked).result()
    assert refusal.value.category == "user"


def test_alternatives_are_drawn_by_the_seed_and_scored_as_the_model_does(
    base_sampler: tinker.SamplingClient, material: Material
) -> None:
    tokens = material.question()

    def drawn(**params: float) -> tinker.SampleResponse:
        settings = tinker.SamplingParams(**({"max_tokens": 1, "temperature": 1.5, "seed": 3} | params))  # type: ignore[arg-type]
        return base_sampler.sample(material.prompt(), 1, settings, prompt_alt_tokens_k=4).result()

    first, again, other = drawn(), drawn(), drawn(seed=4)
    ids = first.prompt_alt_tokens.tokens.to_numpy()
    assert ids.shape == (len(tokens) - 1, 4)
    assert (ids == again.prompt_alt_tokens.tokens.to_numpy()).all()
    assert (ids != other.prompt_alt_tokens.tokens.to_numpy()).any()
    asked = tinker.TensorData.from_numpy(ids)
    scored = base_sampler.sample(material.prompt(), 1, ONE, target_prompt_logprobs=asked).result()
    np.testing.assert_array_equal(scored.target_prompt_logprobs.to_numpy(), first.prompt_alt_tokens.logprobs.to_numpy())
    greedy = drawn(temperature=0.0).prompt_alt_tokens.tokens.to_numpy()
    best = base_sampler.sample(material.prompt(), 1, ONE, True, topk_prompt_logprobs=1).result().topk_prompt_logprobs
    assert [row[0][0] for row in best[1:]] == greedy[:, 0].tolist()
    assert (greedy == greedy[:, :1]).all()


def test_likeliest_tokens_of_every_sampled_position(base_sampler: tinker.SamplingClient, material: Material) -> None:
    params = tinker.SamplingParams(max_tokens=6, temperature=1.0, seed=9, stop=[])
    for sequence in base_sampler.sample(material.prompt(), 2, params, topk_sample_logprobs=500).result().sequences:
        assert sequence.topk_logprobs is not None
        assert len(sequence.topk_logprobs) == len(sequence.tokens) == 6
        for token, logprob, best in zip(sequence.tokens, sequence.logprobs, sequence.topk_logprobs, strict=True):
            assert dict(best).get(token, logprob) == logprob
            assert [score for _, score in best] == sorted((score for _, score in best), reverse=True)


def test_only_the_last_prompt_tokens_are_scored(base_sampler: tinker.SamplingClient, material: Material) -> None:
    ask = {"include_prompt_logprobs": True, "topk_prompt_logprobs": 2}
    whole = base_sampler.sample(material.prompt(), 1, ONE, **ask).result()
    last = base_sampler.sample(material.prompt(), 1, ONE, **ask, prompt_logprobs_last_n=3).result()
    assert last.prompt_logprobs[-3:] == whole.prompt_logprobs[-3:]
    assert set(last.prompt_logprobs[:-3]) == {None}
    assert last.topk_prompt_logprobs[-3:] == whole.topk_prompt_logprobs[-3:]
    assert last.topk_prompt_logprobs[-4] is None
