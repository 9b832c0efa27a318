"""Layers in C: the framework's bits forward, the gradient of autograd backward, whoever else is there."""

import ctypes
from pathlib import Path

import numpy as np
import pytest
import torch

from hone.engine import wide
from hone.engine.batch import cut
from hone.engine.contract import ForwardBackward, ModelSource
from hone.engine.models.decoder import Decoder
from hone.engine.models.load import LoadedModel, load_model
from hone.engine.native.library import Batch, FrozenLayer, HeadPart, HeadPass, LayerPass, Part, Place, Shape, Sizes
from hone.engine.trainer import run_pieces
from hone.engine.wide import helped_by
from hone.engine.workers import Workers
from hone.protocol.types import LoraConfig
from tests.unit.engine.material import layer_gradients, random_datum, relative_error, trained_adapter

SERVED = ["llama_rope", "qwen3_tied", "qwen3_long"]
LENGTHS = (5, 16, 16, 33, 200, 230, 1, 2)
TINY = Path(__file__).parents[4] / "src/hone/assets/tiny"


def decoder_of(model: LoadedModel) -> Decoder:
    assert isinstance(model.decoder, Decoder)
    assert model.decoder.written_in_c is not None
    return model.decoder


@pytest.mark.parametrize("flags", [{}, {"train_attn": False}, {"train_mlp": False}])
@pytest.mark.parametrize("ranks", [(4, 8, 33), (16, 32, 64)])
@pytest.mark.parametrize("family", SERVED)
def test_it_is_what_autograd_makes_of_the_framework(
    family: str, ranks: tuple[int, ...], flags: dict[str, bool], models: dict[str, LoadedModel]
) -> None:
    decoder = decoder_of(models[family])
    states = [trained_adapter(decoder.config, LoraConfig(rank, 1, **flags)) for rank in ranks]
    assert decoder.written_in_c is not None
    assert all(decoder.written_in_c.serves(state.layout) for state in states)
    found, wanted = (layer_gradients(decoder, states, [0, 3, 6, 8], LENGTHS, kind) for kind in (False, True))
    assert torch.equal(found[0], wanted[0])
    for one, other in zip(found[1:], wanted[1:], strict=True):
        assert relative_error(one, other) < 3e-6


@pytest.mark.parametrize("length", [191, 192, 385, 511, 512, 513, 1040, 1299])
def test_sequences_of_any_length(length: int, models: dict[str, LoadedModel]) -> None:
    """Sums break at several lengths, and keys are taken in tiles."""
    decoder = decoder_of(models["qwen3_long"])
    states = [trained_adapter(decoder.config, LoraConfig(8, 1))]
    found, wanted = (layer_gradients(decoder, states, [0, 2], (length, 3), kind) for kind in (False, True))
    assert torch.equal(found[0], wanted[0])
    assert relative_error(found[1], wanted[1]) < 3e-6


def test_the_embedded_model_is_served() -> None:
    decoder = decoder_of(load_model(ModelSource("tiny", TINY)))
    states = [trained_adapter(decoder.config, LoraConfig(rank, 1)) for rank in (8, 16)]
    found, wanted = (layer_gradients(decoder, states, [0, 4, 8], LENGTHS, kind) for kind in (False, True))
    assert torch.equal(found[0], wanted[0])
    for one, other in zip(found[1:], wanted[1:], strict=True):
        assert relative_error(one, other) < 3e-6


def test_rows_without_an_adapter_are_the_base_models(models: dict[str, LoadedModel]) -> None:
    decoder = decoder_of(models["qwen3_tied"])
    states = [trained_adapter(decoder.config, LoraConfig(8, 1))]
    found, wanted = (layer_gradients(decoder, states, [1, 3], LENGTHS, kind) for kind in (False, True))
    assert torch.equal(found[0], wanted[0])
    assert relative_error(found[1], wanted[1]) < 3e-6


@pytest.mark.parametrize("family", SERVED)
def test_neighbours_change_no_bit_even_if_they_are_computed_by_the_framework(
    family: str, models: dict[str, LoadedModel]
) -> None:
    """An adapter of rank 2 is no business of the C."""
    model = models[family]
    native = decoder_of(model).written_in_c
    assert native is not None
    ranks = {"a": 8, "b": 2, "c": 16, "d": 3}
    states = {name: trained_adapter(model.config, LoraConfig(rank, 1)) for name, rank in ranks.items()}
    assert [native.serves(state.layout) for state in states.values()] == [True, False, True, False]
    rng = np.random.default_rng(0)
    pieces = []
    for name in ranks:
        data = tuple(random_datum(rng, n, vocab=model.config.vocab_size) for n in (9, 40, 17))
        pieces += cut(ForwardBackward(name, data, "cross_entropy", {}), 1 << 20)
    together = run_pieces(model.decoder, pieces, states)
    gradients = {name: state.gradient for name, state in states.items()}
    for piece, found in zip(pieces, together, strict=True):
        states[piece.adapter].set_gradient(None)
        (alone,) = run_pieces(model.decoder, [piece], states)
        assert alone.loss == found.loss
        for one, other in zip(alone.logprobs, found.logprobs, strict=True):
            np.testing.assert_array_equal(one, other)
        gradient, expected = states[piece.adapter].gradient, gradients[piece.adapter]
        assert gradient is not None
        assert expected is not None
        assert torch.equal(gradient, expected)


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), 1e30])
def test_an_adapter_that_broke_harms_its_own_rows_only(broken: float, models: dict[str, LoadedModel]) -> None:
    decoder = decoder_of(models["qwen3_tied"])
    states = [trained_adapter(decoder.config, LoraConfig(rank, 1)) for rank in (8, 16, 33)]
    well = layer_gradients(decoder, states, [0, 3, 6, 8], LENGTHS, False)
    states[1].weights.fill_(broken)
    found = layer_gradients(decoder, states, [0, 3, 6, 8], LENGTHS, False)
    first, last = sum(LENGTHS[:3]), sum(LENGTHS[:6])
    assert not found[0][first:last].isfinite().any()
    for rows in (slice(first), slice(last, None)):
        assert torch.equal(found[0][rows], well[0][rows])
    for i in (1, 3):
        assert torch.equal(found[i], well[i])


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("rank", [8, 16])
def test_stages_that_are_divided_have_the_same_bits(
    count: int, rank: int, models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = decoder_of(models["qwen3_long"])
    states = [trained_adapter(decoder.config, LoraConfig(rank, 1))]
    whole = layer_gradients(decoder, states, [0, 2], (700, 90), False)
    monkeypatch.setattr(wide, "LEAST_WORK", 1 << 10)
    workers, shared = Workers(count), []
    plain = workers.help
    monkeypatch.setattr(workers, "help", lambda tasks: (shared.append(len(tasks)), plain(tasks))[1])
    try:
        with helped_by(workers):
            divided = layer_gradients(decoder, states, [0, 2], (700, 90), False)
    finally:
        workers.close()
    assert len(shared) == 7 * decoder.config.layers
    assert max(shared) == count
    for one, other in zip(divided, whole, strict=True):
        assert torch.equal(one, other)


def test_structures_are_as_large_as_those_of_the_source() -> None:
    sizes = {Shape: 36, Place: 8 + 8 + 24, Part: 16 + 24 + 16, Batch: 16 + 32 + 16, LayerPass: 80, Sizes: 32}
    sizes |= {FrozenLayer: 8 + 24 + 4 * 32, HeadPart: 16 + 32, HeadPass: 16 + 32 + 48 + 72 + 8}
    assert {structure: ctypes.sizeof(structure) for structure in sizes} == sizes
