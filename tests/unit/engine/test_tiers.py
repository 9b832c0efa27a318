"""Adapters beyond what the device holds wait on the host, and nobody can tell. The device is one of those here that
ruins whatever is used before it has arrived, or from where it no longer is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hone.engine import contract as c
from hone.engine import loop as loop_module
from hone.engine.limits import Limits
from hone.engine.lora.state import AdapterState, new_adapter
from hone.engine.models.load import LoadedModel
from hone.engine.tiers import BYTES_PER_NUMBER, CudaCopies, OneMemory, Tiers, tiers_for
from hone.protocol.types import LoraConfig
from tests.unit.engine.test_loop import STEP, RunningLoop, create, train


class Ruinous:
    """While a copy is under way, the adapter's numbers are not to be had."""

    def __init__(self) -> None:
        self.on_device: set[AdapterState] = set()
        self.moves: list[tuple[str, AdapterState]] = []
        self._kept: dict[AdapterState, list[torch.Tensor]] = {}

    def fetch(self, state: AdapterState) -> None:
        assert state not in self.on_device
        self.on_device.add(state)
        self._begin("fetch", state)

    def send(self, state: AdapterState) -> None:
        self.on_device.remove(state)
        self._begin("send", state)

    def settle(self, state: AdapterState) -> None:
        for tensor, kept in zip(state.tensors(), self._kept.pop(state, []), strict=False):
            tensor.copy_(kept)

    def _begin(self, move: str, state: AdapterState) -> None:
        self.moves.append((move, state))
        self.settle(state)
        self._kept[state] = [tensor.clone() for tensor in state.tensors()]
        for tensor in state.tensors():
            tensor.fill_(float("nan"))


class Fixture:
    """Room for two adapters of rank 4 on the device."""

    def __init__(self, model: LoadedModel) -> None:
        self.copies, self.busy = Ruinous(), set[str]()
        self.states = {name: new_adapter(model.config, LoraConfig(4, seed)) for seed, name in enumerate("abcd")}
        size = BYTES_PER_NUMBER * self.states["a"].layout.size
        self.tiers = Tiers(self.copies, 2 * size, self.busy.__contains__)

    def enter(self, *names: str) -> None:
        for name in names:
            self.tiers.enter(name, self.states[name])

    @property
    def on_device(self) -> str:
        return "".join(name for name, state in self.states.items() if state in self.copies.on_device)


@pytest.fixture
def fixture(models: dict[str, LoadedModel]) -> Fixture:
    return Fixture(models["qwen3"])


def test_the_least_recently_used_makes_room(fixture: Fixture) -> None:
    fixture.enter("a", "b")
    assert fixture.on_device == "ab"
    fixture.enter("c")
    assert fixture.on_device == "bc"
    fixture.tiers.use("b")
    fixture.tiers.use("a")
    assert fixture.on_device == "ab"


def test_work_in_line_fetches_and_keeps_those_that_have_some(fixture: Fixture) -> None:
    fixture.enter("a", "b", "c")
    fixture.busy |= {"b"}
    fixture.tiers.expect("a")
    assert fixture.on_device == "ab", "c has none"
    fixture.busy |= {"a"}
    fixture.tiers.expect("c")
    assert fixture.on_device == "ab", "only what is computed next pushes out what has work"
    fixture.tiers.use("c")
    assert fixture.on_device == "ac", "of those with work, the one used least recently"


def test_what_is_computed_together_is_there_together(fixture: Fixture) -> None:
    fixture.enter("a", "b", "c", "d")
    fixture.tiers.use("bad")
    assert fixture.on_device == "abd", "more than there is room for: a pass has to have all"
    assert fixture.tiers.bytes > fixture.tiers.capacity
    fixture.tiers.use("c")
    assert fixture.tiers.bytes <= fixture.tiers.capacity
    assert "c" in fixture.on_device


def test_nobody_leaves_when_that_would_not_be_enough(fixture: Fixture, models: dict[str, LoadedModel]) -> None:
    fixture.enter("a", "b")
    large = new_adapter(models["qwen3"].config, LoraConfig(32, 9))
    fixture.tiers.enter("large", large)
    assert fixture.on_device == "ab"
    fixture.tiers.use(["large"])
    assert fixture.on_device == ""


def test_leaving_frees_and_may_be_said_twice(fixture: Fixture) -> None:
    fixture.enter("a", "b")
    fixture.tiers.leave("a")
    fixture.tiers.leave("a")
    moves = len(fixture.copies.moves)
    fixture.enter("c")
    assert fixture.copies.moves[moves:] == [("fetch", fixture.states["c"])], "there was room"
    fixture.tiers.enter("c", fixture.states["d"])  # loaded again, in place of what it was
    assert fixture.tiers.bytes == fixture.tiers.capacity


def test_a_cpu_moves_nothing(models: dict[str, LoadedModel]) -> None:
    tiers = tiers_for(torch.device("cpu"), 1, lambda _: False)
    state = new_adapter(models["qwen3"].config, LoraConfig(4, 1))
    weights = state.weights
    tiers.enter("a", state)
    tiers.use("a")
    assert isinstance(tiers._copies, OneMemory)
    assert tiers.read("a").weights is weights


@pytest.fixture
def crowded(models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[RunningLoop, Ruinous]]:
    """An engine whose device has room for two adapters."""
    copies = Ruinous()
    size = BYTES_PER_NUMBER * new_adapter(models["qwen3"].config, LoraConfig(4, 1)).layout.size

    def tiers(device: torch.device, capacity: int, has_work: Any) -> Tiers:
        return Tiers(copies, capacity, has_work)

    plain = loop_module.adamw_step

    def step(state: AdapterState, params: Any) -> dict[str, float]:
        assert state in copies.on_device
        return plain(state, params)

    monkeypatch.setattr(loop_module, "tiers_for", tiers)
    monkeypatch.setattr(loop_module, "adamw_step", step)
    engine = RunningLoop({"qwen3": models["qwen3"]}, Limits(micro_batch_tokens=64, adapter_bytes=2 * size))
    yield engine, copies
    engine.close()


def test_six_adapters_in_the_room_of_two_learn_what_they_learn_alone(
    crowded: tuple[RunningLoop, Ruinous], models: dict[str, LoadedModel], tmp_path: Path
) -> None:
    engine, copies = crowded
    names = "abcdef"

    def run(engine: RunningLoop, folder: Path) -> dict[str, list[bytes]]:
        sent = [engine.submit(create(name, seed)) for seed, name in enumerate(names)]
        for turn in range(3):
            for seed, name in enumerate(names):
                sent += [engine.submit(train(name, 10 * turn + seed)), engine.submit(c.OptimStep(name, STEP))]
        sent += [engine.submit(train(name, 99)) for name in names]  # gradients that wait move along
        sent += [engine.submit(c.Snapshot(name, str(folder / name))) for name in names]
        sent.append(engine.submit(c.Publish("a", "v", str(folder / "v"), durable=True)))
        for future in sent:
            future.result(60)
        return {
            name: [
                (folder / name / file).read_bytes() for file in ("adapter_model.safetensors", "optimizer.safetensors")
            ]
            for name in names
        }

    found = run(engine, tmp_path / "crowded")
    assert len(copies.moves) > 12
    alone = RunningLoop({"qwen3": models["qwen3"]}, Limits(micro_batch_tokens=64))
    assert run(alone, tmp_path / "alone") == found
    alone.close()


def test_work_is_fetched_when_it_arrives(crowded: tuple[RunningLoop, Ruinous]) -> None:
    engine, copies = crowded
    for name in "abc":
        engine.ask(create(name))
    state = engine.loop._adapters["a"].state
    assert state not in copies.on_device
    engine.loop._accept(1_000_000, train("a"))  # the loop is idle, and computes nothing of it before it wakes up
    assert copies.moves[-1] == ("fetch", state)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_copies_of_a_gpu(models: dict[str, LoadedModel]) -> None:
    copies, state = CudaCopies(torch.device("cuda", 0)), new_adapter(models["qwen3"].config, LoraConfig(32, 1))
    before = [tensor.clone() for tensor in state.tensors()]
    for _ in range(20):
        copies.fetch(state)
        copies.settle(state)
        assert state.weights.is_cuda
        state.weights += 1
        copies.send(state)
        copies.settle(state)
        assert state.weights.is_pinned()
    assert torch.allclose(state.weights, before[0] + 20, atol=1e-4)
