import json
from pathlib import Path

import pytest

from hone.algorithms.config import Config
from hone.algorithms.run_directory import Checkpoint, RunDirectory
from hone.errors import UserError


class Settings(Config):
    rate: float = 1.0


def test_a_run_goes_on_from_its_newest_checkpoint_and_forgets_the_steps_after_it(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run", Settings())
    for step in range(5):
        run.log(step, {"loss": 1.0 / (step + 1)})
        if step == 2:
            run.record(Checkpoint("000003", 3, "tinker://a/weights/000003", "tinker://a/sampler_weights/000003"))
    again = RunDirectory(tmp_path / "run", Settings())
    assert again.first_step == 3
    assert [row["step"] for row in again.metrics()] == [0, 1, 2]
    assert again.newest == run.newest


def test_a_line_that_a_crash_cut_off_is_dropped(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path, Settings())
    run.record(Checkpoint("000009", 9, "tinker://a/weights/000009", None))
    run.log(0, {"loss": 1.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1, "lo')
    again = RunDirectory(tmp_path, Settings())
    again.log(1, {"loss": 2.0})
    assert [row["loss"] for row in again.metrics()] == [1.0, 2.0]


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    RunDirectory(tmp_path, Settings())
    (tmp_path / "checkpoints.jsonl").write_text("{}\nnonsense\n{}\n")
    with pytest.raises(UserError, match=r"checkpoints.jsonl:2 is not JSON"):
        RunDirectory(tmp_path, Settings())


def test_another_configuration_needs_another_directory(tmp_path: Path) -> None:
    RunDirectory(tmp_path, Settings())
    with pytest.raises(UserError, match=r"another configuration \(differing: rate\)"):
        RunDirectory(tmp_path, Settings(rate=2.0))


def test_a_finished_run_keeps_all_its_lines(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path, Settings())
    run.log(0, {"loss": 1.0})
    run.log(1, {"test/nll": float("nan")})
    run.record(Checkpoint("final", 1, "tinker://a/weights/final", "tinker://a/sampler_weights/final", final=True))
    again = RunDirectory(tmp_path, Settings())
    assert again.finished
    assert len(again.metrics()) == 2
    assert again.metrics()[1]["test/nll"] is None
    assert json.loads((tmp_path / "config.json").read_text()) == {"rate": 1.0}
