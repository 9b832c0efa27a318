"""The step in C: logits, keys and values have the bits that the framework's operations give."""

import os
import shutil
import subprocess
import sys
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hone.engine.attention import BLOCK, TILE, DecodeAttention, KeyValueCache, stable_blocks
from hone.engine.lora.batch import LoraBatch
from hone.engine.models.load import LoadedModel
from hone.engine.native import decoder
from hone.engine.native import library as library_module
from hone.engine.native.decoder import NativeDecoder
from hone.engine.native.library import library
from hone.engine.sampling.version import AdapterVersion, adapter_spans
from hone.protocol.types import LoraConfig
from tests.unit.engine.material import trained_adapter

SERVED = ["llama_rope", "qwen3_tied", "qwen3_long"]
LONG = [0, BLOCK - 1, BLOCK, 191, 192, 300, 383, 384, TILE - 1, TILE, TILE + 200, 2 * TILE + 7]


def version(model: LoadedModel, rank: int, seed: int = 1, **parts: bool) -> AdapterVersion:
    state = trained_adapter(model.config, LoraConfig(rank, seed, **parts))
    return AdapterVersion(state.layout, state.weights)


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
    lora = LoraBatch(adapter_spans(versions, list(range(count + 1))))
    with torch.inference_mode():
        attend = DecodeAttention(cache, blocks_BN, slots_B, positions_B)
        hidden_Bh = model.decoder.forward(tokens_B, positions_B, attend, lora)
        expected_BV = lora.project("head", hidden_Bh, model.decoder.weights.head)
    after = [entries.clone() for entries in cache.entries]
    for entries, kept in zip(cache.entries, before, strict=True):
        entries.copy_(kept)
    native = NativeDecoder.of(model, cache)
    assert native is not None
    assert native.serves(versions)
    step = native.step(versions, torch.stack([tokens_B, positions_B, slots_B]), blocks_BN)
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


@pytest.mark.parametrize("rank", [4, 8, 32, 100])
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
    for rank, served in ((1, False), (4, True), (100, True)):
        assert native.serves([None, version(model, rank)]) is served


def test_packed_adapters_are_kept_and_forgotten(
    models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models["qwen3_tied"]
    cache = KeyValueCache(model.config.layers, 4, model.config.kv_heads, model.config.head_dim)
    native = NativeDecoder.of(model, cache)
    assert native is not None
    inputs_31, blocks_11 = torch.zeros(3, 1, dtype=torch.int64), torch.ones(1, 1, dtype=torch.int64)
    versions = [version(model, 4, seed) for seed in range(3)]
    for one in versions:
        native.step([one], inputs_31, blocks_11)
    assert list(native._adapters) == [id(one) for one in versions]
    monkeypatch.setattr(decoder, "KEPT_BYTES", 2 * native._adapters[id(versions[0])].bytes)
    native.step([versions[0]], inputs_31, blocks_11)
    assert len(native._adapters) == 3, "all of them were used not long ago"
    monkeypatch.setattr(decoder, "RECENT", 1)
    native.step([versions[0]], inputs_31, blocks_11)
    assert list(native._adapters) == [id(versions[2]), id(versions[0])]
    for one in 3 * versions:
        native.step([one], inputs_31, blocks_11)
    assert [weakref.getweakrefcount(one) for one in versions] == [0, 1, 1], "who was forgotten leaves nothing behind"
    versions.clear()
    del one
    assert not native._adapters, "they go with their versions"


@pytest.mark.parametrize("wrong", [{"vocab_size": 100}, {"intermediate_size": 64}, {"heads": 2}])
def test_weights_of_other_shapes_than_the_configuration_says_are_left_to_the_framework(
    models: dict[str, LoadedModel], wrong: dict[str, int]
) -> None:
    model = models["qwen3_tied"]
    other = replace(model, config=replace(model.config, **wrong))
    cache = KeyValueCache(model.config.layers, 4, model.config.kv_heads, model.config.head_dim)
    assert NativeDecoder.of(other, cache) is None


def test_what_was_compiled_from_another_source_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(library_module.__file__).parent
    for file in [*folder.glob("*.c"), *folder.glob("*.h"), *folder.glob("*.so")]:
        shutil.copy(file, tmp_path)
    monkeypatch.setattr(library_module, "__file__", str(tmp_path / "library.py"))
    assert library.__wrapped__() is not None
    with (tmp_path / "step.c").open("a") as source:
        source.write("/* changed */")
    assert library.__wrapped__() is None


def test_other_processors_have_a_step_of_their_own() -> None:
    """With shorter vectors, in which the framework sums and exponentiates otherwise."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("this processor has the shorter vectors itself")
    program = (
        "import torch; from hone.cli import doctor; from hone.settings import Settings; from pathlib import Path\n"
        "assert torch.backends.cpu.get_cpu_capability() == 'AVX2'\n"
        "model = Path(doctor.__file__).parent.parent / 'assets' / 'tiny'\n"
        "print(doctor.check_compiled(doctor.Setup(Settings(), Path(), model)))"
    )
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "avx2"}
    found = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120
    )
    assert "in C" in found.stdout, found.stderr
