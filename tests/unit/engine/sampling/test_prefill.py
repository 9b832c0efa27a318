"""Prompts in chunks: the same bits, nobody held up, and nothing computed twice."""

import numpy as np
import pytest

from hone.engine.attention import BLOCK
from hone.engine.batch import cut
from hone.engine.contract import ForwardBackward, Sample, Share
from hone.engine.lora.state import AdapterState
from hone.engine.models.load import LoadedModel
from hone.engine.sampling.prefill import Prefill
from hone.engine.sampling.request import SampleRequest
from hone.engine.sampling.sampler import Sampler
from hone.engine.sampling.stops import StopRule
from hone.engine.sampling.version import AdapterVersion
from hone.engine.trainer import run_pieces
from hone.protocol.types import Datum, LoraConfig, PromptTargets, SampleResult
from tests.unit.engine.material import VOCAB, trained_adapter
from tests.unit.engine.sampling.material import assert_equal, one, prompt, request, run, sampler_of

WHOLE = 1 << 15
"""A step in which every prompt of these tests fits."""


@pytest.fixture(scope="module")
def adapter(models: dict[str, LoadedModel]) -> AdapterState:
    return trained_adapter(models["qwen3_long"].config, LoraConfig(16, 1))


@pytest.fixture(scope="module")
def version(adapter: AdapterState) -> AdapterVersion:
    return AdapterVersion(adapter.layout, adapter.weights.clone())


# --- the same bits ---------------------------------------------------------------------------------------------------


def everything(length: int, version: str | None = None) -> Sample:
    """All that can be asked about a prompt."""
    rows = np.arange(length - 1, dtype=np.int32)
    targets = PromptTargets(np.repeat(rows, 2), prompt(9, 2 * len(rows)))
    asked = {"prompt_logprobs": True, "topk_prompt_logprobs": 4, "prompt_alt_tokens": 2}
    return request(prompt(length, length), version, samples=2, target_prompt_logprobs=targets, **asked)


def assert_equal_scores(found: SampleResult, wanted: SampleResult) -> None:
    assert_equal(found, wanted)
    assert found.topk_prompt_logprobs is not None
    assert wanted.topk_prompt_logprobs is not None
    assert found.prompt_alt_tokens is not None
    assert wanted.prompt_alt_tokens is not None
    for ours, theirs in (
        (found.prompt_logprobs, wanted.prompt_logprobs),
        (found.topk_prompt_logprobs.token_ids, wanted.topk_prompt_logprobs.token_ids),
        (found.topk_prompt_logprobs.logprobs, wanted.topk_prompt_logprobs.logprobs),
        (found.target_prompt_logprobs, wanted.target_prompt_logprobs),
        (found.prompt_alt_tokens.tokens, wanted.prompt_alt_tokens.tokens),
        (found.prompt_alt_tokens.logprobs, wanted.prompt_alt_tokens.logprobs),
    ):
        assert ours is not None
        assert theirs is not None
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("tokens", [16, 48, 200, 512])
@pytest.mark.parametrize("length", [190, 750, 1201])
def test_chunks_change_no_bit(
    length: int, tokens: int, models: dict[str, LoadedModel], version: AdapterVersion
) -> None:
    model, op = models["qwen3_long"], everything(length, "v")
    assert_equal_scores(
        one(sampler_of(model, prefill=tokens), op, version), one(sampler_of(model, prefill=WHOLE), op, version)
    )


@pytest.mark.parametrize("family", ["qwen3_moe", "llama_rope"])
def test_nor_in_other_architectures(family: str, models: dict[str, LoadedModel]) -> None:
    model, op = models[family], everything(230)
    assert_equal_scores(one(sampler_of(model, prefill=64), op), one(sampler_of(model, prefill=WHOLE), op))


def trained(model: LoadedModel, adapter: AdapterState, op: Sample, result: SampleResult) -> np.ndarray:
    """What the trainer gives every token after the first, of the prompt and the one sample."""
    tokens = np.concatenate([op.prompt, result.sequences[0].tokens])
    inputs = {"target_tokens": tokens[1:].astype(np.int64), "weights": np.ones(len(tokens) - 1, np.float32)}
    passing = ForwardBackward("a", (Datum(tokens[:-1], inputs),), "cross_entropy", {}, forward_only=True)
    (piece,) = cut(passing, 4096)
    return run_pieces(model.decoder, [piece], {"a": adapter})[0].logprobs[0]


def test_sampled_and_trained_log_probabilities_are_equal_to_the_bit(
    models: dict[str, LoadedModel], adapter: AdapterState, version: AdapterVersion
) -> None:
    """Through chunks, preemption and a cached beginning."""
    model = models["qwen3_long"]
    sampler = sampler_of(model, cache_tokens=1280, prefill=100)
    asked = [request(prompt(i % 3, 380 + i), "v", seed=i, max_tokens=80, prompt_logprobs=i == 4) for i in range(6)]
    results = run(sampler, [(op, version) for op in asked], joining_every=7)
    assert sampler.preemptions
    assert any(r.prompt_cache_hit_tokens for r in results.values())
    for i, op in enumerate(asked):
        wanted = trained(model, adapter, op, results[i])
        np.testing.assert_array_equal(results[i].sequences[0].logprobs, wanted[len(op.prompt) - 1 :])
        if (scored := results[i].prompt_logprobs) is not None:
            np.testing.assert_array_equal(scored[1:], wanted[: len(op.prompt) - 1])


@pytest.mark.parametrize("length", [185, 490, 1000])
def test_so_they_are_for_a_sequence_alone(
    length: int, models: dict[str, LoadedModel], adapter: AdapterState, version: AdapterVersion
) -> None:
    model, op = models["qwen3_long"], request(prompt(length, length), "v", max_tokens=60)
    result = one(sampler_of(model, prefill=200), op, version)
    wanted = trained(model, adapter, op, result)
    np.testing.assert_array_equal(result.sequences[0].logprobs, wanted[length - 1 :])


# --- nobody is held up -----------------------------------------------------------------------------------------------


def steps_until(sampler: Sampler, ticket: int) -> int:
    for step in range(1, 5000):
        if any(found == ticket for found, _ in sampler.step()):
            return step
    raise AssertionError(f"request {ticket} does not end")


def test_decoding_goes_on_between_the_chunks_of_a_long_prompt(models: dict[str, LoadedModel]) -> None:
    sampler = sampler_of(models["qwen3_long"], prefill=64)
    sampler.add(0, request(prompt(0, 20), max_tokens=10), None)
    sampler.step()
    sampler.add(1, request(prompt(1, 1200), max_tokens=1), None)
    assert steps_until(sampler, 0) == 8  # the first step drew two
    assert sampler.prefilled_tokens < 20 + 9 * 64
    steps_until(sampler, 1)


def test_a_short_prompt_does_not_wait_for_long_ones_before_it(models: dict[str, LoadedModel]) -> None:
    sampler = sampler_of(models["qwen3_long"], rows=64, cache_tokens=1 << 15, prefill=128)
    for i in range(10):
        sampler.add(i, request(prompt(i, 1200), max_tokens=1), None)
    for _ in range(3):
        sampler.step()
    sampler.add(99, request(prompt(99, 50), max_tokens=1), None)
    assert steps_until(sampler, 99) <= 2
    assert steps_until(sampler, 0) <= 1200 // 64, "and the first long one goes on meanwhile"


@pytest.mark.parametrize("cache_tokens", [1 << 16, 4096])
def test_one_tenants_long_prompts_do_not_starve_anothers_short_one(
    cache_tokens: int, models: dict[str, LoadedModel]
) -> None:
    """Neither while they are computed nor when they have taken all rows or the whole cache."""
    sampler = sampler_of(models["qwen3_long"], rows=12, cache_tokens=cache_tokens, prefill=512)
    for i in range(64):
        sampler.add(i, request(prompt(i, 500), max_tokens=600, share=Share("long")), None)
    for turn, pause in enumerate((1, 10, 40)):
        for _ in range(pause):
            sampler.step()
        sampler.add(100 + turn, request(prompt(turn, 40), max_tokens=4, share=Share("short")), None)
        assert steps_until(sampler, 100 + turn) <= 6
    assert len(sampler._running) + len(sampler._filling) > 1, "the others go on"


# --- nothing twice ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [256, WHOLE])
def test_a_group_costs_one_prefill(tokens: int, models: dict[str, LoadedModel]) -> None:
    sampler = sampler_of(models["qwen3_long"], cache_tokens=WHOLE, prefill=tokens)
    one(sampler, request(prompt(6, 1000), samples=16))
    assert sampler.prefilled_tokens == 1000


@pytest.mark.parametrize("tokens", [256, WHOLE])
@pytest.mark.parametrize("joining_every", [0, 1])
def test_so_do_requests_for_one_prompt(
    joining_every: int, tokens: int, models: dict[str, LoadedModel], version: AdapterVersion
) -> None:
    """Those that come while it is computed wait for it; each has the rest behind the last full block to itself."""
    model = models["qwen3_long"]
    sampler = sampler_of(model, cache_tokens=WHOLE, prefill=tokens)
    asked = [(request(prompt(6, 1000), "v", seed=i), version) for i in range(16)]
    results = run(sampler, asked, joining_every)
    assert sampler.prefilled_tokens == 1000 + 15 * 8
    assert [results[i].prompt_cache_hit_tokens for i in range(16)] == [0, *[992] * 15]
    for i in (0, 1, 15):
        assert_equal(results[i], one(sampler_of(model), *asked[i]))


def test_a_common_beginning_is_waited_for_and_no_more(models: dict[str, LoadedModel]) -> None:
    sampler = sampler_of(models["qwen3_long"], prefill=128)
    sampler.add(0, request(prompt(0, 1200), max_tokens=1), None)
    sampler.add(1, request(np.concatenate([prompt(0, 100), prompt(1, 30)]), max_tokens=1), None)
    results: dict[int, SampleResult] = {}
    for _ in range(3):
        results.update(sampler.step())
    assert list(results) == [1]
    assert results[1].prompt_cache_hit_tokens == 96
    while sampler:
        results.update(sampler.step())
    assert sampler.prefilled_tokens == 1200 + 34


def test_who_waited_for_a_prompt_that_is_cancelled_computes_it(models: dict[str, LoadedModel]) -> None:
    model = models["qwen3_long"]
    sampler = sampler_of(model, prefill=128)
    asked = [request(prompt(0, 1000), seed=i) for i in range(3)]
    for i, op in enumerate(asked):
        sampler.add(i, op, None)
    sampler.step()
    sampler.step()
    sampler.cancel(0)
    sampler.cancel(1)
    results: dict[int, SampleResult] = {}
    while sampler:
        results.update(sampler.step())
    assert list(results) == [2]
    assert_equal(results[2], one(sampler_of(model), asked[2]))
    assert results[2].prompt_cache_hit_tokens == 256
    assert sampler.prefilled_tokens == 1000


def waiting(tokens: np.ndarray, version: str | None = None, **more: bool) -> Prefill:
    op = request(tokens, version, **more)
    return Prefill(SampleRequest(0, 0, op, None, StopRule((), (), None), 1, [0]))


def test_what_is_shared_are_full_blocks_under_the_same_weights() -> None:
    long = prompt(1, 100)
    leader = waiting(long)
    for length, shared in ((100, 96), (97, 96), (96, 80), (40, 32), (17, 16), (16, 0), (1, 0)):
        assert waiting(long[:length]).shared_with(leader) == shared
    other = long.copy()
    other[50] = (other[50] + 1) % VOCAB
    assert waiting(other).shared_with(leader) == 3 * BLOCK
    assert waiting(long, "v").shared_with(leader) == 0
    assert waiting(long, prompt_logprobs=True).shared_with(leader) == 0, "scored prompts are computed in full"
