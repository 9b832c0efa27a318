"""How runs begin and stop."""

import asyncio
import signal
from pathlib import Path

import tinker

from hone.algorithms import sft
from hone.algorithms.config import ModelConfig, OptimizerConfig
from hone.algorithms.datums import supervised_datum
from hone.algorithms.run_directory import Checkpoint
from hone.algorithms.training_session import StopSignal, stop_on_interrupt, stopped_by
from tests.support.fake_tinker import MODEL, FakeService

EXAMPLES = [supervised_datum(tinker.ModelInput.from_ints([1, 2, 3 + row]), [0.0, 1.0, 1.0]) for row in range(3)]


def train(service: FakeService, run_dir: Path, stop: StopSignal, model: ModelConfig) -> Checkpoint:
    config = sft.SftConfig(model=model, optimizer=OptimizerConfig(learning_rate=0.1), batch_size=1, eval_every=0)
    with stopped_by(stop):
        return asyncio.run(sft.train(config, service, EXAMPLES, run_dir))  # type: ignore[arg-type]


def test_a_program_that_conducts_runs_stops_each_by_its_own_signal(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    first, second = StopSignal(), StopSignal()
    with stopped_by(first), stop_on_interrupt() as heard:
        assert heard is first
        assert signal.getsignal(signal.SIGINT) is before
    with stopped_by(second), stop_on_interrupt() as heard:
        assert heard is second
    first.requested = True
    service = FakeService()
    assert not train(service, tmp_path / "stopped", first, ModelConfig(name=MODEL, seed=1)).final
    assert train(service, tmp_path / "whole", second, ModelConfig(name=MODEL, seed=1)).final


def test_a_loaded_checkpoint_goes_on_with_its_optimizer(tmp_path: Path) -> None:
    service = FakeService()
    done = train(service, tmp_path / "first", StopSignal(), ModelConfig(name=MODEL, seed=1))
    fresh = train(service, tmp_path / "a", StopSignal(), ModelConfig(name=MODEL, init_from_checkpoint=done.state_path))
    loaded = train(service, tmp_path / "b", StopSignal(), ModelConfig(name=MODEL, load_checkpoint=done.state_path))
    moments = [service._load(one.state_path, "weights").adapter.steps for one in (fresh, loaded)]
    assert moments == [3, 6]
