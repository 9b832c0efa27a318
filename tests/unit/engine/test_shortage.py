"""A pass that finds no memory: made smaller, tried once more, and if need be failed alone and without a trace."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hone.engine import contract as c
from hone.engine import side_by_side
from hone.engine.batch import Piece, cut
from hone.engine.checkpoints import read_adapter
from hone.engine.limits import Limits
from hone.engine.models.load import LoadedModel
from hone.engine.shortage import halves, is_lack_of_memory
from hone.engine.trainer import run_pieces
from hone.errors import ServerError
from tests.unit.engine.test_loop import STEP, RunningLoop, bytes_of, create, train

LACKS: dict[str, Callable[[], Exception]] = {
    "cuda": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "cpu": lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you"),
    "other cpu": lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 10 bytes."),
    "numpy": lambda: MemoryError("Unable to allocate 2.00 GiB"),
}
Run = tuple[int, int]
"""Tokens of a pass, and layers that it computes again."""


@pytest.fixture
def engine(models: dict[str, LoadedModel]) -> Iterator[RunningLoop]:
    running = RunningLoop({"qwen3": models["qwen3"]}, Limits(micro_batch_tokens=128))
    yield running
    running.close()


class Machine:
    """Has memory for so many tokens at once; a pass over more fails after it has done all it could."""

    def __init__(self, room: int, monkeypatch: pytest.MonkeyPatch, lack: str = "cpu") -> None:
        self.runs: list[Run] = []

        def run(decoder: Any, pieces: list[Piece], states: Any, recomputed: int) -> Any:
            tokens = sum(piece.tokens for piece in pieces)
            self.runs.append((tokens, recomputed))
            results = run_pieces(decoder, pieces, states, recomputed)
            if tokens > room:
                raise LACKS[lack]()
            return results

        monkeypatch.setattr(side_by_side, "run_pieces", run)


@pytest.mark.parametrize("lack", LACKS)
def test_a_pass_without_memory_is_done_in_halves(
    lack: str, engine: RunningLoop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    op = train("a", 1, lengths=(10, 30, 20, 40))
    engine.ask(create("a"))
    engine.ask(train("a", 0))
    wanted = engine.ask(op)
    engine.ask(c.Snapshot("a", str(tmp_path / "wanted")))
    engine.ask(create("a"))
    engine.ask(train("a", 0))
    machine = Machine(60, monkeypatch, lack)
    found = engine.ask(op)
    assert machine.runs == [(100, 0), (60, 2), (40, 2)]
    assert found.metrics["loss:sum"] == pytest.approx(wanted.metrics["loss:sum"], rel=1e-6)
    for one, other in zip(found.logprobs, wanted.logprobs, strict=True):
        np.testing.assert_array_equal(one, other)
    engine.ask(c.Snapshot("a", str(tmp_path / "found")))
    one, other = (read_adapter(tmp_path / name, _config(engine), True) for name in ("found", "wanted"))
    assert one.gradient is not None
    assert other.gradient is not None
    torch.testing.assert_close(one.gradient, other.gradient, rtol=1e-4, atol=1e-5)


def _config(engine: RunningLoop) -> Any:
    return engine.loop._model("qwen3").config


@pytest.mark.parametrize("earlier", [True, False], ids=["after a pass", "first pass"])
def test_what_does_not_fit_in_halves_fails_and_leaves_no_trace(
    earlier: bool, engine: RunningLoop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine.ask(create("a"))
    if earlier:
        engine.ask(train("a", 1))
    before = bytes_of(engine, "a", tmp_path / "before")
    machine = Machine(60, monkeypatch)
    failed = engine.submit(train("a", 2, lengths=(20, 100, 50, 70)))  # pieces of 120 and 120
    following = engine.submit(train("a", 3, lengths=(9,), forward_only=True))
    with pytest.raises(ServerError, match=r"not enough memory for 100 tokens.*longest sequence has 100.*Send shorter"):
        failed.result(30)
    following.result(30)
    assert machine.runs == [(120, 0), (20, 2), (100, 2), (9, 0)]  # and none of the second piece
    assert bytes_of(engine, "a", tmp_path / "after") == before


def test_only_the_one_that_is_too_large_fails(
    engine: RunningLoop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lengths = {"a": (20, 15), "b": (70,), "c": (9, 9)}
    for name in lengths:
        engine.ask(create(name))
    alone = {}
    for name in "ac":
        engine.ask(train(name, 5, lengths=lengths[name]))
        engine.ask(c.OptimStep(name, STEP))
        alone[name] = bytes_of(engine, name, tmp_path / f"{name} alone")
        engine.ask(create(name))
    Machine(60, monkeypatch)
    # the engine is kept from taking them apart: they arrive while it computes
    busy = engine.submit(train("a", 9, lengths=(8,) * 5, forward_only=True))
    sent = {name: engine.submit(train(name, 5, lengths=lengths[name])) for name in lengths}
    busy.result(30)
    with pytest.raises(ServerError, match="not enough memory for 70 tokens"):
        sent["b"].result(30)
    for name in "ac":
        sent[name].result(30)
        engine.ask(c.OptimStep(name, STEP))
        assert bytes_of(engine, name, tmp_path / f"{name} beside it") == alone[name]
    assert engine.ask(c.OptimStep("b", STEP))["optimizer/skipped"] == 1


def test_layers_are_computed_again_where_the_budget_asks_for_it(
    models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    memory = models["qwen3"].memory
    runs: dict[int, list[Run]] = {}
    states = []
    for n in (0, 1, 2):
        room = memory.bytes(100, n, 100 * 7 * 4 * 2)  # seven sites of rank 4 in each of two layers
        engine = RunningLoop({"qwen3": models["qwen3"]}, Limits(micro_batch_tokens=128, activation_bytes=room))
        machine = Machine(1000, monkeypatch)
        engine.ask(create("a"))
        engine.ask(train("a", lengths=(50, 50)))
        engine.ask(train("a", lengths=(50, 50), forward_only=True))
        states.append(bytes_of(engine, "a", tmp_path / str(n)))
        engine.close()
        runs[n] = machine.runs
    assert runs == {n: [(100, n), (100, 0)] for n in (0, 1, 2)}
    assert states[0] == states[1] == states[2]


def test_other_errors_are_no_lack_of_memory() -> None:
    assert all(is_lack_of_memory(make()) for make in LACKS.values())
    assert not is_lack_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_lack_of_memory(ValueError("not enough memory of what was said"))


@pytest.mark.parametrize("lengths", [(5,), (5, 5), (1, 1, 100), (100, 1, 1), (30, 30, 30), (1,) * 9])
def test_halves_hold_every_sequence_once(lengths: tuple[int, ...]) -> None:
    (piece,) = cut(train("a", lengths=lengths), 1000)
    parts = halves(piece)
    assert len(parts) == min(2, len(lengths))
    assert [place for part in parts for place in part.places] == list(piece.places)
    assert [datum for part in parts for datum in part.data] == list(piece.data)
    assert sum(part.tokens for part in parts) == piece.tokens
    longest = max(lengths)
    assert all(part.tokens <= piece.tokens / 2 + longest for part in parts)
