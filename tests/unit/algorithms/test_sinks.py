"""Each sink with the real library, on this machine alone; what it wrote is read back."""

import json
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hone.algorithms.run_directory import MetricSink
from hone.algorithms.sinks import library, open_sinks
from hone.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore")


def test_tensorboard_holds_every_step(tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    (sink,) = open_sinks("tensorboard", tmp_path, "p", {})
    for step in range(3):
        sink.log(step, {"loss": 1.0 / (step + 1), "note": "x"})
    sink.close()
    events = accumulators.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (step, pytest.approx(1.0 / (step + 1))) for step in range(3)
    ]


def side_by_side(sinks: Sequence[MetricSink], steps: Sequence[int]) -> None:
    for step in steps:
        for place, sink in enumerate(sinks):
            sink.log(step, {"loss": float(10 * place + step), "note": "x", "nothing": float("nan")})
    for sink in sinks:
        sink.close()


def test_wandb_keeps_runs_that_train_side_by_side_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MODE", "offline"), ("SILENT", "true"), ("ERROR_REPORTING", "false")):
        monkeypatch.setenv(f"WANDB_{name}", value)
    wandb = pytest.importorskip("wandb")
    runs = [tmp_path / "a", tmp_path / "b"]
    for steps in ((0, 1), (2,)):  # the second time they go on
        for run in runs:
            run.mkdir(exist_ok=True)
        side_by_side([sink for run in runs for sink in open_sinks("wandb", run, "p", {"lr": 0.1})], steps)
    wandb.teardown()  # its process writes what is left
    for place, run in enumerate(runs):
        written = sorted(run.glob("wandb/offline-run-*/run-*.wandb"), key=lambda path: path.stat().st_mtime_ns)
        rows = [row for path in written for row in wandb_history(path)]
        assert [(row["_step"], row["loss"]) for row in rows] == [(step, 10 * place + step) for step in range(3)]
        assert {row["note"] for row in rows} == {"x"}
        assert len({path.stem for path in written}) == 1  # one run, for W&B


def wandb_history(path: Path) -> Iterator[dict[str, Any]]:
    """The logged rows of a `.wandb` file: records of W&B's protocol in the log format of LevelDB, seven bytes at the
    start of the file."""
    from wandb.proto import wandb_internal_pb2  # type: ignore[import-not-found, unused-ignore]

    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # no header begins in the last bytes of a block
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # complete, or the last part
            record, whole = wandb_internal_pb2.Record.FromString(whole), b""
            if record.HasField("history"):
                yield {
                    item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
                }


def test_trackio_keeps_runs_that_train_side_by_side_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read once, when it is imported
    folder = Path(pytest.importorskip("trackio.utils").TRACKIO_DIR)
    runs = [tmp_path / "a", tmp_path / "b"]
    project = tmp_path.name
    for steps in ((0, 1), (2,)):
        side_by_side([sink for run in runs for sink in open_sinks("trackio", run, project, {"lr": 0.1})], steps)
    (database,) = folder.glob(f"{project}*.db")
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT run_name, step, metrics FROM metrics ORDER BY run_name, step").fetchall()
    connection.close()
    assert [(name[0], step, json.loads(metrics)["loss"]) for name, step, metrics in rows] == [
        (name, step, 10 * place + step) for place, name in enumerate("ab") for step in range(3)
    ]


def test_what_is_not_installed_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(UserError, match=r"trackio is not installed: pip install 'hone\[trackio\]'"):
        open_sinks("trackio", tmp_path, "p", {})


def test_what_is_installed_but_broken_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_library.py").write_text("import no_such_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"installed but cannot be imported .*no_such_dependency"):
        library("broken_library")


def test_an_unknown_sink_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'comet' is none of them"):
        open_sinks("comet", tmp_path, "p", {})
    assert open_sinks("", tmp_path, "p", {}) == []
