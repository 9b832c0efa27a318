"""What is served in C has been compared on this machine; what differs is not served."""

import ctypes

import pytest

from hone.engine.attention import KeyValueCache
from hone.engine.models.decoder import Decoder
from hone.engine.models.load import LoadedModel
from hone.engine.native import agreement, decoder, draw
from hone.engine.native.agreement import agrees, trusted_decoder, trusted_layers
from hone.engine.native.decoder import NativeDecoder
from hone.engine.sampling.native_rows import NativeRows
from hone.engine.sampling.version import AdapterVersion
from hone.protocol.types import LoraConfig
from tests.unit.engine.material import trained_adapter
from tests.unit.engine.sampling.material import assert_equal, prompt, request, run, sampler_of


def cache_of(model: LoadedModel, blocks: int = 300) -> KeyValueCache:
    return KeyValueCache(model.config.layers, blocks, model.config.kv_heads, model.config.head_dim)


@pytest.mark.parametrize("blocks", [2, 8, *range(86, 98), *range(212, 219), 300])
def test_equal_bits_are_trusted_and_leave_the_cache_empty(models: dict[str, LoadedModel], blocks: int) -> None:
    cache = cache_of(models["qwen3_long"], blocks)
    assert trusted_decoder(models["qwen3_long"], cache) is not None
    assert not any(entries.any() for entries in cache.entries)


def test_without_a_block_to_try_nothing_is_trusted(models: dict[str, LoadedModel]) -> None:
    assert trusted_decoder(models["qwen3_long"], cache_of(models["qwen3_long"], 1)) is None


def test_one_number_that_is_a_little_off_is_noticed(models: dict[str, LoadedModel]) -> None:
    model = models["qwen3_long"]
    cache = cache_of(model)
    native = NativeDecoder.of(model, cache)
    assert native is not None
    shared = native._packed[0]._copy
    right = shared[3].item()
    shared[3] *= 1.0001
    try:
        assert not agrees(model, native, cache)
        assert isinstance(model.decoder, Decoder)
        assert trusted_layers(model.decoder) is None
    finally:
        shared[3] = right
    assert agrees(model, native, cache)
    assert trusted_layers(model.decoder) is not None


def test_a_decoder_that_is_not_trusted_is_not_used(
    models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreement, "agrees", lambda *_: False)
    assert trusted_decoder(models["qwen3_long"], cache_of(models["qwen3_long"])) is None


def test_requests_have_the_same_results_without_the_c(
    models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many sequences and adapters, joining and leaving, with filters and without."""
    model = models["qwen3_long"]
    states = {str(seed): trained_adapter(model.config, LoraConfig(rank=4, seed=seed)) for seed in range(2)}
    versions = {None: None, **{name: AdapterVersion(s.layout, s.weights) for name, s in states.items()}}
    asked = []
    for number in range(9):
        name = [None, "0", "1"][number % 3]
        more = [{}, {"top_k": 5}, {"temperature": 0.0}, {"temperature": 0.7}][number % 4]
        op = request(prompt(number, 3 + 9 * number), name, samples=2, seed=number, max_tokens=10 + number, **more)
        asked.append((op, versions[name]))
    laid_out = []
    plain = NativeRows.logits
    monkeypatch.setattr(NativeRows, "logits", lambda rows: (laid_out.append(len(rows.sequences)), plain(rows))[1])
    in_c = run(sampler_of(model), asked, joining_every=2)
    assert max(laid_out) > 3
    steps = len(laid_out)
    for module in (decoder, draw):
        monkeypatch.setattr(module, "library", lambda: None)
    without = run(sampler_of(model), asked, joining_every=2)
    assert len(laid_out) == steps
    for place in range(len(asked)):
        assert_equal(in_c[place], without[place])


def test_structures_are_as_large_as_those_of_the_source() -> None:
    """The C has no padding that Python does not know of: pointers behind an odd number of ints."""
    from hone.engine.native.library import Layer, Matrix, Model, Pair, Rows, Span

    assert [ctypes.sizeof(s) for s in (Matrix, Pair, Span, Rows)] == [24, 8 + 4 * 24, 16, 56]
    assert ctypes.sizeof(Layer) == 3 * 8 + 4 * 24 + 8
    assert ctypes.sizeof(Model) == 10 * 4 + 5 * 8 + 24
