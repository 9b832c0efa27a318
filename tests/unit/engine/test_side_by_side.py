"""Passes on several threads: nothing depends on who else is served, nor on which thread is first."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hone.engine import side_by_side
from hone.engine.batch import Piece, cut
from hone.engine.contract import ForwardBackward, OptimStep
from hone.engine.limits import Limits
from hone.engine.models.load import LoadedModel
from hone.engine.side_by_side import LEAST_TOKENS, SideBySide, deal
from hone.engine.trainer import PieceResult, run_pieces
from hone.engine.workers import Workers
from hone.protocol.types import LoraConfig
from tests.unit.engine.material import random_datum, relative_error, trained_adapter
from tests.unit.engine.test_loop import STEP, RunningLoop, create, train
from tests.unit.engine.test_workers import computing_threads

LENGTHS = {
    "large": (90, 17, 64, 5, 110, 40, 33, *[130] * 6),
    "small": (12, 30),
    "single": (256,),
    "gspo": (80, 90, 70, 60),
}
LOSSES = {"gspo": "gspo", "large": "ppo"}


@pytest.fixture(params=[2, 4, 16])
def several(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[SideBySide]:
    monkeypatch.setattr(side_by_side, "FURTHER_WORK", 1)
    workers = Workers(request.param)
    yield SideBySide(workers)
    workers.close()


@pytest.fixture(scope="module")
def two() -> Iterator[SideBySide]:
    workers = Workers(2)
    yield SideBySide(workers)
    workers.close()


def piece(name: str, forward_only: bool = False) -> Piece:
    loss = LOSSES.get(name, "cross_entropy")
    rng = np.random.default_rng(len(name))
    data = tuple(random_datum(rng, length, loss) for length in LENGTHS[name])
    (one,) = cut(ForwardBackward(name, data, loss, {}, forward_only), 2048)  # type: ignore[arg-type]
    return one


def computed(
    model: LoadedModel, names: Sequence[str], run: Any, times: int = 1
) -> tuple[dict[str, PieceResult], dict[str, Tensor]]:
    states = {name: trained_adapter(model.config, LoraConfig(rank=4, seed=seed)) for seed, name in enumerate(LENGTHS)}
    pieces = [piece(name) for name in names]
    for _ in range(times):
        results = run(model.decoder, pieces, states)
    gradients = {name: states[name].gradient for name in names}
    assert all(gradient is not None for gradient in gradients.values())
    return dict(zip(names, results, strict=True)), gradients  # type: ignore[return-value]


def test_a_piece_is_dealt_by_itself_and_evenly() -> None:
    for hands, wanted in ((2, 2), (4, 4), (16, sum(LENGTHS["large"]) // LEAST_TOKENS)):
        parts = deal(piece("large"), hands)
        assert len(parts) == wanted
        assert sorted(place for part in parts for place in part.places) == list(range(len(LENGTHS["large"])))
        sizes = [part.tokens for part in parts]
        assert max(sizes) - min(sizes) <= 60
        for part in parts:
            assert [len(d.tokens) for d in part.data] == sorted(len(d.tokens) for d in part.data)
    for name in ("small", "single"):
        assert len(deal(piece(name), 2)) == 1
    assert piece("small").tokens < LEAST_TOKENS


def test_a_long_sequence_among_short_ones_keeps_one_part_busy_and_the_rest_another() -> None:
    rng = np.random.default_rng(0)
    data = tuple(random_datum(rng, length, "cross_entropy") for length in (1000, *[30] * 10))
    (one,) = cut(ForwardBackward("a", data, "cross_entropy", {}), 2048)
    assert [part.tokens for part in deal(one, 16)] == [1000, 300]


def test_a_small_model_is_dealt_to_few(models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch) -> None:
    model, hands = models["qwen3"], []

    def dealt(piece: Piece, most: int) -> list[Piece]:
        hands.append(most)
        return deal(piece, most)

    monkeypatch.setattr(side_by_side, "deal", dealt)
    state, workers = trained_adapter(model.config, LoraConfig(rank=4, seed=0)), Workers(8)
    for work in (1 << 40, piece("large").tokens * model.config.hidden_size // 3, 1):
        monkeypatch.setattr(side_by_side, "FURTHER_WORK", work)
        SideBySide(workers).run_pieces(model.decoder, [piece("large")], {"large": state})
    assert hands == [2, 3, 8]
    workers.close()


def test_large_adapters_have_fewer_gradients(models: dict[str, LoadedModel]) -> None:
    state = trained_adapter(models["qwen3"].config, LoraConfig(rank=4, seed=0))
    workers = Workers(4)
    for room, most in ((0, 1), (1, 2), (2.5, 3), (100, 101)):
        assert SideBySide(workers, int(room * 4 * state.layout.size))._parts(state) == most
    workers.close()


@pytest.mark.parametrize("order", [("large", "small", "single", "gspo"), ("gspo", "single", "small", "large")])
def test_together_is_bit_for_bit_alone(
    models: dict[str, LoadedModel], several: SideBySide, order: Sequence[str]
) -> None:
    for family in ("qwen3", "qwen3_moe"):
        model, run = models[family], several.run_pieces
        together, gradients = computed(model, order, run, times=2)
        for name in order:
            (alone,), (gradient,) = (list(found.values()) for found in computed(model, [name], run, times=2))
            assert together[name].loss == alone.loss
            for one, other in zip(together[name].logprobs, alone.logprobs, strict=True):
                np.testing.assert_array_equal(one, other)
            assert torch.equal(gradients[name], gradient), (family, name)


def test_it_computes_what_one_thread_computes(
    models: dict[str, LoadedModel], several: SideBySide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_by_side, "LEAST_SUM", 1)
    model = models["qwen3"]
    names = tuple(LENGTHS)
    found, gradients = computed(model, names, several.run_pieces)
    wanted, wanted_gradients = computed(model, names, run_pieces)
    for name in names:
        assert found[name].loss == pytest.approx(wanted[name].loss, rel=1e-6)
        for one, other in zip(found[name].logprobs, wanted[name].logprobs, strict=True):
            np.testing.assert_array_equal(one, other)
        assert relative_error(gradients[name], wanted_gradients[name]) < 1e-6


def test_forward_only_gathers_nothing(models: dict[str, LoadedModel], two: SideBySide) -> None:
    model = models["qwen3"]
    state = trained_adapter(model.config, LoraConfig(rank=4, seed=0))
    state.set_gradient(None)
    (result,) = two.run_pieces(model.decoder, [piece("large", forward_only=True)], {"large": state})
    assert state.gradient is None
    assert len(result.logprobs) == len(LENGTHS["large"])


def test_a_failure_is_told_when_everybody_has_stopped(
    models: dict[str, LoadedModel], two: SideBySide, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = []

    def fails_or_takes_long(decoder: Any, pieces: Sequence[Piece], adapters: Any, recomputed: int) -> list[PieceResult]:
        if 0 in pieces[0].places:
            raise RuntimeError("no memory")
        time.sleep(0.2)
        ended.append(pieces)
        return [PieceResult(0.0, ()) for _ in pieces]

    model = models["qwen3"]
    monkeypatch.setattr(side_by_side, "run_pieces", fails_or_takes_long)
    states = {name: trained_adapter(model.config, LoraConfig(rank=4, seed=0)) for name in LENGTHS}
    with pytest.raises(RuntimeError, match="no memory"):
        two.run_pieces(model.decoder, [piece("large")], states)
    assert len(ended) == 1


def test_the_threads_are_there_from_the_start_and_end_with_the_loop(models: dict[str, LoadedModel]) -> None:
    before = computing_threads()
    engine = RunningLoop({"qwen3": models["qwen3"]}, Limits(training_threads=2))
    assert computing_threads() == before + 2, "none has to be started in a pass, which may find no memory for it"
    engine.close()
    assert computing_threads() == before


def test_a_part_without_memory_makes_the_piece_smaller(
    models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both parts compute at once; one finds no memory, and nothing of either stays in the gradient."""

    def run(decoder: Any, pieces: Sequence[Piece], states: Any, recomputed: int) -> list[PieceResult]:
        results = run_pieces(decoder, pieces, states, recomputed)
        if pieces[0].tokens > 400:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return results

    engine = RunningLoop({"qwen3": models["qwen3"]}, Limits(training_threads=2))
    op = train("a", 1, lengths=LENGTHS["large"])

    def step() -> tuple[float, float]:
        engine.ask(create("a"))
        loss = engine.ask(op).metrics["loss:sum"]
        return loss, engine.ask(OptimStep("a", STEP))["optimizer/grad_norm"]

    wanted = step()
    monkeypatch.setattr(side_by_side, "run_pieces", run)
    found = step()
    engine.close()
    assert found == pytest.approx(wanted, rel=1e-5)
