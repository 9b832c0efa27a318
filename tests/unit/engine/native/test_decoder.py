"""The step in C: logits, keys and values have the bits that the framework's operations give."""

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest
import torch

from hone.engine.attention import BLOCK, TILE, DecodeAttention, KeyValueCache, stable_blocks
from hone.engine.lora.batch import LoraBatch
from hone.engine.models.load import LoadedModel
from hone.engine.native import decoder
from hone.engine.native.decoder import NativeDecoder
from hone.engine.native.library import library
from hone.engine.sampling.version import AdapterVersion, adapter_spans, make_version
from hone.protocol.types import LoraConfig
from tests.unit.engine.material import trained_adapter

SERVED = ["llama_rope", "qwen3_tied", "qwen3_long"]
LONG = [0, BLOCK - 1, BLOCK, 191, 192, 300, 383, 384, TILE - 1, TILE, TILE + 200, 2 * TILE + 7]


def version(model: LoadedModel, rank: int, seed: int = 1, **parts: bool) -> AdapterVersion:
    state = trained_adapter(model.config, LoraConfig(rank, seed, **parts))
    return make_version(state.layout, state.weights)


def compare(model: LoadedModel, versions: Sequence[AdapterVersion | None], positions: list[int]) -> None:
    """One row for each, in pages that lie anywhere."""
    config, count = model.config, len(positions)
    blocks = stable_blocks(max(positions) // BLOCK + 1)
    cache = KeyValueCache(config.layers, 1 + count * blocks, config.kv_heads, config.head_dim)
    for entries in cache.entries:
        entries.normal_()
    blocks_BN = (1 + torch.randperm(count * blocks)).view(count, blocks)
    positions_B, tokens_B = torch.tensor(positions), torch.randint(config.vocab_size, (count,))
    slots_B = blocks_BN[torch.arange(count), positions_B // BLOCK] * BLOCK + positions_B % BLOCK
    before = [entries.clone() for entries in cache.entries]
    spans = adapter_spans(versions, list(range(count + 1)))
    lora = LoraBatch(spans)
    with torch.inference_mode():
        attend = DecodeAttention(cache, blocks_BN, slots_B, positions_B)
        hidden_Bh = model.decoder.forward(tokens_B, positions_B, attend, lora)
        expected_BV = lora.project("head", hidden_Bh, model.decoder.weights.head)
    after = [entries.clone() for entries in cache.entries]
    for entries, kept in zip(cache.entries, before, strict=True):
        entries.copy_(kept)
    native = NativeDecoder.of(model, cache)
    assert native is not None
    assert native.serves(spans)
    step = native.step(spans, torch.stack([tokens_B, positions_B, slots_B]), blocks_BN)
    assert torch.equal(step(), expected_BV)
    assert all(map(torch.equal, cache.entries, after))


def test_it_is_there_where_it_can_be_compiled() -> None:
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        pytest.skip("compiled for Linux on x86-64 only")
    assert library() is not None, "install Hone again: `make install`"


@pytest.mark.parametrize("family", SERVED)
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 9])
def test_base_models_of_several_shapes(models: dict[str, LoadedModel], family: str, rows: int) -> None:
    compare(models[family], [None] * rows, [7 * row for row in range(rows)])


@pytest.mark.parametrize("position", LONG)
def test_one_sequence_of_any_length(models: dict[str, LoadedModel], position: int) -> None:
    compare(models["qwen3_long"], [None], [position])


def test_sequences_of_all_lengths_side_by_side(models: dict[str, LoadedModel]) -> None:
    compare(models["qwen3_long"], [None] * len(LONG), LONG)


@pytest.mark.parametrize("rank", [4, 8, 32])
def test_adapters_of_several_ranks(models: dict[str, LoadedModel], rank: int) -> None:
    model = models["qwen3_tied"]
    compare(model, [version(model, rank)], [20])
    compare(model, [version(model, rank)] * 5, [1, 2, 3, 4, 50])


def test_rows_of_the_base_and_of_several_adapters(models: dict[str, LoadedModel]) -> None:
    model = models["qwen3_long"]
    one, other = version(model, 4), version(model, 16, seed=2)
    partial = version(model, 8, seed=3, train_attn=False, train_unembed=False)
    compare(model, [None, None, one, one, other, other, other, other, other, partial], list(range(3, 13)))


@pytest.mark.parametrize("family", ["qwen3", "llama", "qwen3_moe"])
def test_what_it_cannot_compute_it_does_not_serve(models: dict[str, LoadedModel], family: str) -> None:
    """Heads of other sizes than whole vectors, and experts."""
    config = models[family].config
    assert NativeDecoder.of(models[family], KeyValueCache(config.layers, 4, config.kv_heads, config.head_dim)) is None


def test_adapters_that_it_cannot_multiply_with_are_left_to_the_framework(models: dict[str, LoadedModel]) -> None:
    model = models["qwen3_tied"]
    cache = KeyValueCache(model.config.layers, 4, model.config.kv_heads, model.config.head_dim)
    native = NativeDecoder.of(model, cache)
    assert native is not None
    for rank, served in ((1, False), (4, True), (300, False)):
        assert native.serves(adapter_spans([version(model, rank)], [0, 1])) is served


def test_packed_adapters_are_kept_and_forgotten(
    models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models["qwen3_tied"]
    monkeypatch.setattr(decoder, "KEPT_ADAPTERS", 2)
    cache = KeyValueCache(model.config.layers, 4, model.config.kv_heads, model.config.head_dim)
    native = NativeDecoder.of(model, cache)
    assert native is not None
    first, second, third = (adapter_spans([version(model, 4, seed)], [0, 1])[0] for seed in range(3))
    packed = native._adapter(first)
    assert native._adapter(second) is not packed
    assert native._adapter(first) is packed, "used again, so it is the newer of the two"
    native._adapter(third)
    assert native._adapter(first) is packed
    assert len(native._adapters) == 2


def test_other_processors_have_a_step_of_their_own() -> None:
    """With shorter vectors, in which the framework sums and exponentiates otherwise."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("this processor has the shorter vectors itself")
    program = (
        "import torch; from hone.cli import doctor; from hone.settings import Settings; from pathlib import Path\n"
        "assert torch.backends.cpu.get_cpu_capability() == 'AVX2'\n"
        "model = Path(doctor.__file__).parent.parent / 'assets' / 'tiny'\n"
        "print(doctor.check_decoding(doctor.Setup(Settings(), Path(), model)))"
    )
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "avx2"}
    found = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120
    )
    assert "in C" in found.stdout, found.stderr
