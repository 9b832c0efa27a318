"""Prompts in C: hidden states, keys and values have the bits that the framework's operations give."""

from collections.abc import Sequence
from contextlib import closing
from itertools import count
from math import prod

import pytest
import torch
from torch import Tensor

from hone.engine import wide
from hone.engine.attention import BLOCK, KeyValueCache
from hone.engine.contract import Sample
from hone.engine.models.load import LoadedModel
from hone.engine.native.decoder import NativeDecoder
from hone.engine.sampling import native_chunks
from hone.engine.sampling.native_chunks import MOST_POSITIONS, MOST_ROWS, run_native_chunks
from hone.engine.sampling.prefill import Chunk, Prefill, run_chunks
from hone.engine.sampling.request import SampleRequest
from hone.engine.sampling.stops import StopRule
from hone.engine.sampling.version import AdapterVersion
from hone.engine.wide import helped_by
from hone.engine.workers import Workers
from hone.protocol.types import LoraConfig
from tests.unit.engine.material import trained_adapter
from tests.unit.engine.sampling.material import assert_equal, prompt, request, run, sampler_of

Asked = tuple[int, int, AdapterVersion | None]
"""Tokens that the cache has, tokens afterwards, and whose."""


def version(model: LoadedModel, rank: int, seed: int = 1) -> AdapterVersion:
    state = trained_adapter(model.config, LoraConfig(rank, seed))
    return AdapterVersion(state.layout, state.weights)


def chunks_of(asked: Sequence[Asked]) -> list[Chunk]:
    """In blocks that lie anywhere."""
    generator = torch.Generator().manual_seed(0)
    free = (1 + torch.randperm(300, generator=generator)).tolist()
    chunks = []
    for number, (start, stop, own) in enumerate(asked):
        op: Sample = request(prompt(number, stop), own and f"{id(own)}")
        prefill = Prefill(SampleRequest(number, number, op, own, StopRule((), (), None), 12, [0]), done=start)
        prefill.blocks = [free.pop() for _ in range(-(-stop // BLOCK))]
        chunks.append(Chunk(prefill, stop))
    return chunks


def cache_of(model: LoadedModel) -> KeyValueCache:
    return KeyValueCache(model.config.layers, 301, model.config.kv_heads, model.config.head_dim)


@torch.inference_mode()
def compare(model: LoadedModel, asked: Sequence[Asked]) -> None:
    cache, chunks = cache_of(model), chunks_of(asked)
    for entries in cache.entries:
        entries.normal_()
    before = [entries.clone() for entries in cache.entries]
    expected = run_chunks(model, cache, chunks)
    after = [entries.clone() for entries in cache.entries]
    for entries, kept in zip(cache.entries, before, strict=True):
        entries.copy_(kept)
    native = NativeDecoder.of(model, cache)
    assert native is not None
    found = run_native_chunks(native, chunks)
    assert found is not None
    for (chunk, hidden_Th), (same, expected_Th) in zip(found, expected, strict=True):
        assert chunk is same
        assert torch.equal(hidden_Th, expected_Th)
    assert all(map(torch.equal, cache.entries, after))


@pytest.mark.parametrize("family", ["llama_rope", "qwen3_tied", "qwen3_long"])
@pytest.mark.parametrize("length", [1, 2, 5, BLOCK, 3 * BLOCK + 1])
def test_base_models_of_several_shapes(models: dict[str, LoadedModel], family: str, length: int) -> None:
    compare(models[family], [(0, length, None)])


@pytest.mark.parametrize("stop", [191, 193, 255, 256])
def test_one_prompt_that_is_long(models: dict[str, LoadedModel], stop: int) -> None:
    compare(models["qwen3_long"], [(0, stop, None)])


@pytest.mark.parametrize("start", [BLOCK, 192, 384, MOST_POSITIONS - 2 * BLOCK])
def test_a_prompt_that_goes_on(models: dict[str, LoadedModel], start: int) -> None:
    compare(models["qwen3_long"], [(start, start + 2 * BLOCK, version(models["qwen3_long"], 4))])


def test_prompts_of_several_adapters_side_by_side(models: dict[str, LoadedModel]) -> None:
    model = models["qwen3_long"]
    one, other = version(model, 4), version(model, 16, seed=2)
    compare(model, [(0, 7, one), (0, 20, None), (BLOCK, 40, other), (0, 7, one), (0, 3, other), (64, 65, None)])


@torch.inference_mode()
def test_what_is_too_long_is_left_to_the_framework(models: dict[str, LoadedModel]) -> None:
    model = models["qwen3_long"]
    native = NativeDecoder.of(model, cache_of(model))
    assert native is not None

    def served(asked: Sequence[Asked]) -> bool:
        return run_native_chunks(native, chunks_of(asked)) is not None

    half = MOST_ROWS // 2
    assert served([(0, half, None), (0, half, None)])
    assert not served([(0, half, None), (0, half + 1, None)])
    assert served([(MOST_POSITIONS - BLOCK, MOST_POSITIONS, None)])
    assert not served([(MOST_POSITIONS - BLOCK, MOST_POSITIONS + 1, None)])
    assert not served([(0, 9, None), (0, 9, version(model, 1))])


@torch.inference_mode()
def test_what_several_cores_would_divide_is_left_to_them(
    models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models["qwen3_long"]
    native = NativeDecoder.of(model, cache_of(model))
    assert native is not None
    monkeypatch.setattr(wide, "LEAST_WORK", 20 * prod(native.largest))
    few, many = chunks_of([(0, 39, None)]), chunks_of([(0, 40, None)])
    assert run_native_chunks(native, many) is not None
    with closing(Workers(2)) as workers, helped_by(workers):
        assert run_native_chunks(native, few) is not None
        assert run_native_chunks(native, many) is None


def test_requests_have_the_same_results_with_prompts_in_c(
    models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With prompts that share beginnings, are cut into chunks, scored, and run out of room."""
    model = models["qwen3_long"]
    own, numbers, in_c = version(model, 4), count(), []
    long = prompt(99, 60)
    asked = []
    for number in range(8):
        tokens = long.copy() if number % 2 else prompt(number, 5 + 11 * number)
        tokens[40 + number :] = next(numbers)
        op = request(tokens, "own" if number % 3 else None, samples=2, seed=number, prompt_logprobs=number == 4)
        asked.append((op, own if number % 3 else None))

    def counted(native: NativeDecoder, chunks: Sequence[Chunk]) -> list[tuple[Chunk, Tensor]] | None:
        in_c.append(sum(c.stop - c.start for c in chunks))
        return run_native_chunks(native, chunks)

    monkeypatch.setattr(native_chunks, "run_native_chunks", counted)
    found = run(sampler_of(model, rows=5, cache_tokens=400, prefill=32), asked, joining_every=2)
    assert max(in_c) > 20
    monkeypatch.setattr(native_chunks, "run_native_chunks", lambda *_: None)
    expected = run(sampler_of(model, rows=5, cache_tokens=400, prefill=32), asked, joining_every=2)
    for place in range(len(asked)):
        assert_equal(found[place], expected[place])
