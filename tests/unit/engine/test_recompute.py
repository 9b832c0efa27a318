"""Layers that are computed again change no bit, and the memory that a pass takes is what was said it would."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from hone.engine.batch import Piece, cut
from hone.engine.contract import ForwardBackward, ModelSource
from hone.engine.lora.state import AdapterState
from hone.engine.models.load import LoadedModel, load_model
from hone.engine.recompute import PassMemory
from hone.engine.trainer import run_pieces
from hone.protocol.types import LoraConfig
from tests.unit.engine.material import FAMILIES, random_datum, trained_adapter

TINY = Path(__file__).parents[3] / "src/hone/assets/tiny"


def a_pass(vocab: int, lengths: tuple[int, ...], adapter: str = "a", forward_only: bool = False) -> Piece:
    rng = np.random.default_rng(len(lengths))
    data = tuple(random_datum(rng, n, vocab=vocab) for n in lengths)
    (piece,) = cut(ForwardBackward(adapter, data, "cross_entropy", {}, forward_only), 1 << 20)
    return piece


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_computed_again_changes_no_bit(family: str, models: dict[str, LoadedModel]) -> None:
    model = models[family]
    states = {name: trained_adapter(model.config, LoraConfig(rank, 1)) for name, rank in (("a", 4), ("b", 9))}
    pieces = [a_pass(model.config.vocab_size, lengths, name) for name, lengths in (("a", (1, 17, 40)), ("b", (3, 3)))]
    wanted: list[object] = []
    for recomputed in range(model.decoder.layers + 1):
        for state in states.values():
            state.set_gradient(None)
        results = run_pieces(model.decoder, pieces, states, recomputed)
        gradients = [state.gradient for state in states.values()]
        if not recomputed:
            wanted = [results, gradients]
            continue
        for found, result in zip(results, wanted[0], strict=True):  # type: ignore[call-overload]
            assert found.loss == result.loss
            for one, other in zip(found.logprobs, result.logprobs, strict=True):
                np.testing.assert_array_equal(one, other)
        for found, gradient in zip(gradients, wanted[1], strict=True):  # type: ignore[call-overload]
            assert torch.equal(found, gradient), recomputed


def test_a_pass_without_a_gradient_keeps_nothing_to_compute_again(qwen3: LoadedModel) -> None:
    state = trained_adapter(qwen3.config, LoraConfig(4, 1))
    piece = a_pass(qwen3.config.vocab_size, (20,), forward_only=True)
    (plain,), (found,) = (run_pieces(qwen3.decoder, [piece], {"a": state}, n) for n in (0, 2))
    np.testing.assert_array_equal(plain.logprobs[0], found.logprobs[0])
    assert state.gradient is None


def peak_bytes(model: LoadedModel, piece: Piece, state: AdapterState, recomputed: int) -> int:
    """The most that a pass held at once, as the framework's allocator tells it."""
    run_pieces(model.decoder, [piece], {"a": state}, recomputed)  # the gradient exists from here on
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run_pieces(model.decoder, [piece], {"a": state}, recomputed)
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = np.array([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())])
    return int(np.cumsum(sizes).max())


@pytest.mark.parametrize("shape", [((128,) * 8, 8), ((250,), 32), ((16,) * 40, 64)], ids=["short", "long", "rank 64"])
@pytest.mark.parametrize("family", ["tiny", "llama_rope", "qwen3_moe"])
def test_a_pass_takes_what_the_model_of_it_says(
    family: str, shape: tuple[tuple[int, ...], int], models: dict[str, LoadedModel]
) -> None:
    lengths, rank = shape
    model = load_model(ModelSource("tiny", TINY)) if family == "tiny" else models[family]
    state = trained_adapter(model.config, LoraConfig(rank, 1))
    piece = a_pass(model.config.vocab_size, lengths)
    for recomputed in (0, model.decoder.layers):
        said = model.memory.bytes(piece.tokens, recomputed, piece.tokens * state.layout.inner)
        peak = peak_bytes(model, piece, state, recomputed)
        assert 0.85 * peak <= said <= 1.5 * peak, f"{recomputed} layers: {said / 1e6:.1f} said, {peak / 1e6:.1f} found"


def test_as_few_layers_as_possible_are_computed_again() -> None:
    memory = PassMemory(layers=10, most=11_000.0, least=1_000.0, vocab_size=10)
    needed = [memory.bytes(100, n) for n in range(11)]
    assert needed == sorted(needed, reverse=True)
    assert memory.recomputed(100, 0, room=needed[0]) == 0
    for n in (1, 5, 10):
        assert memory.recomputed(100, 0, room=needed[n]) == n
        assert memory.recomputed(100, 0, room=needed[n] - 1) == min(n + 1, 10)
    assert memory.recomputed(100, 0, room=0) == 10
    assert memory.recomputed(100, inner=100_000, room=needed[5]) > 5


def test_the_most_tokens_are_those_that_just_fit() -> None:
    memory = PassMemory(layers=4, most=43_000.0, least=2_500.0, vocab_size=1024)
    for room in (0, 10_000, 5 << 20, 1 << 30):
        tokens = memory.most_tokens(room)
        assert not tokens or memory.bytes(tokens, 4) <= room
        assert memory.bytes(tokens + 1, 4) > room
