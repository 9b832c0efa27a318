"""Our engine, called as the libraries beside it are: does it do the work that it is timed for?"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM

from benchmarks.peers import remote as peer_remote
from benchmarks.peers.model import write_model
from benchmarks.peers.remote import Remote
from benchmarks.peers.systems import ENGINE, SYSTEMS
from benchmarks.peers.systems.hone_engine import System, data
from benchmarks.peers.work import Publish, Sample, Setting, Train
from hone.engine import contract as c
from hone.engine import remote as engine_remote
from hone.protocol.types import AdamParams

TENANTS = 2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    write_model(directory)
    return directory


@pytest.fixture
def system(model: Path) -> Iterator[System]:
    threads = torch.get_num_threads()
    system = System(model, Setting(rank=4, tenants=TENANTS))
    yield system
    system.close()
    torch.set_num_threads(threads)


def test_a_step_is_on_the_same_tokens_and_ends_with_its_loss(system: System, model: Path) -> None:
    work = Train(3, 9, TENANTS)
    losses = system.step(work)
    reference = AutoModelForCausalLM.from_pretrained(model)
    for tenant in range(TENANTS):  # a new adapter changes nothing: its first loss is the base model's
        rows = torch.from_numpy(work.batch(tenant))
        logits = reference(input_ids=rows[:, :-1]).logits
        expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum")
        assert losses[tenant] == pytest.approx(expected.item(), rel=1e-5)
    again = system.step(work)
    for tenant in range(TENANTS):  # every tenant's step was taken, and no gradient is left over
        assert again[tenant] != losses[tenant]
        assert system.engine.ask(c.OptimStep(f"tenant{tenant}", AdamParams())) == [{"optimizer/skipped": 1.0}]


def test_all_asked_tokens_are_drawn(system: System) -> None:
    work = Sample(4, 3, 5, 6, TENANTS)
    system.sample(work, 1)
    drawn = system.draw(work, 1)
    assert [len(tokens) for tokens in drawn] == [6] * 12
    assert len(set(drawn)) == 12


def test_a_publication_is_of_the_weights_just_trained(system: System) -> None:
    work, tokens = Sample(1, 1, 8, 4), Train(1, 8).batch(0)
    system.sample(work, 0)
    first = system.draw(work, 0)
    trained = c.ForwardBackward("tenant0", data(tokens), "cross_entropy", {})
    system.engine.ask(trained, c.OptimStep("tenant0", AdamParams(learning_rate=0.5)))
    assert system.draw(work, 0) == first  # nothing is published yet
    assert system.publish(Publish()) > 0.0
    assert system.draw(work, 0) != first


def _becomes(process: psutil.Process, stopped: bool) -> bool:
    """A signal takes a moment."""
    deadline = time.monotonic() + 10
    while (process.status() == psutil.STATUS_STOPPED) != stopped and time.monotonic() < deadline:
        time.sleep(0.01)
    return (process.status() == psutil.STATUS_STOPPED) == stopped


def test_in_a_process_of_its_own_until_it_gives_no_answer(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = Remote(ENGINE, Path(sys.executable), model, Setting(), tmp_path / "log", None)
    try:
        worker = psutil.Process(system._process.pid)
        assert _becomes(worker, stopped=True)
        assert system.run(Train(1, 8))["seconds"] > 0.0
        assert _becomes(worker, stopped=True)
        system.wake()
        assert _becomes(worker, stopped=False)
        assert system.memory()["megabytes"] > 0.0
        monkeypatch.setattr(peer_remote, "WORK_SECONDS", 0.1)
        late = {"cannot": "Hone, engine alone did not answer in 0.1 s"}
        assert system.run(Train(64, 1024)) == late
        assert system.memory() == late  # and its answer, should there have been one, is nobody else's
    finally:
        system.close()


def test_it_has_the_environment_of_the_engine_process() -> None:
    assert SYSTEMS[ENGINE].environment == engine_remote._ENVIRONMENT
