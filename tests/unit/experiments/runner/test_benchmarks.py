"""Sealed test sets within whole experiments."""

import json
from pathlib import Path
from typing import Any

import pytest

from hone.errors import UserError
from hone.experiments.runner.journal import Lines
from hone.experiments.runner.run import run_experiment
from tests.support.experiments import experiment, rows

SEALED = [{"prompt": word, "answer": "x", "verifier": "begins"} for word in ("zz", "zy", "zx", "zw", "zv", "zu")]


def sealed(home: Path, tasks: list[dict[str, Any]] = SEALED, **more: Any) -> dict[str, Any]:
    (home / "sealed.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    about = {"name": "sealed", "path": "sealed.jsonl", "samples": 8, "max_tokens": 2} | more
    axes = {"algorithm.params.lr": [0.01, 0.5]}
    return {"matrix": {"base_run": {"name": "arm"}, "axes": axes}, "benchmarks": [about]}


def test_it_is_opened_once_for_the_chosen_arm_and_the_baseline_only(tmp_path: Path) -> None:
    loaded = experiment(tmp_path, sealed(tmp_path))
    record = run_experiment(loaded)
    (opening,) = record.openings
    chosen = record.arms[1]
    assert opening.arms[0].startswith(f"{chosen.name}-")
    assert [one.subject for one in record.benchmarks] == [chosen.name, "baseline"]
    tested, baseline = (one.measurement.metrics["mean_reward"] for one in record.benchmarks)
    assert tested > baseline
    assert record.conclusion is not None
    # Resumed, nothing is opened or asked again.
    again = run_experiment(loaded, resume=True)
    assert (again.openings, again.benchmarks) == (record.openings, record.benchmarks)


def test_it_is_not_opened_while_arms_are_missing(tmp_path: Path) -> None:
    loaded = experiment(tmp_path, sealed(tmp_path))
    assert run_experiment(loaded, only=["*0.5*"]).openings == []
    assert not (tmp_path / "runs" / "try" / "ledger.jsonl").exists()


def test_another_choice_would_be_another_look(tmp_path: Path) -> None:
    run_experiment(experiment(tmp_path, sealed(tmp_path)))
    values = sealed(tmp_path)
    values["matrix"]["axes"]["algorithm.params.lr"] = [0.01, 0.02]
    record = run_experiment(experiment(tmp_path, values), resume=True)
    assert len(record.openings) == 1
    assert [one.subject for one in record.benchmarks] == ["baseline"]
    events = Lines(tmp_path / "runs" / "try" / "events.jsonl").rows
    assert any(row["event"] == "benchmark_failed" and "once" in row["error"] for row in events)


def test_rows_on_both_sides_fail_the_run_before_anything_is_trained(tmp_path: Path) -> None:
    leaked = [*SEALED, {"prompt": rows()[3]["prompt"], "answer": "x", "verifier": "begins"}]
    with pytest.raises(UserError, match="1 of 7 test rows"):
        run_experiment(experiment(tmp_path, sealed(tmp_path, leaked)))
    assert not list((tmp_path / "runs" / "try" / "arms").glob("*/run"))
    waived = sealed(tmp_path, leaked, overlap={"waiver": "a test of the waiver"})
    record = run_experiment(experiment(tmp_path, waived))
    assert [one.overlap_waiver for one in record.openings] == ["a test of the waiver"]


def test_the_test_side_of_a_split_is_a_benchmark_too(tmp_path: Path) -> None:
    split = {"data": {"split": {"validation": 0.2, "test": 0.2}}}
    record = run_experiment(experiment(tmp_path, {"run": split}))
    assert {one.benchmark for one in record.benchmarks} == {"test"}
    assert len(record.openings) == 1


def test_a_test_that_breaks_is_said_and_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hone.experiments.runner import benchmarks

    async def breaks(*given: Any, **more: Any) -> Any:
        raise RuntimeError("the service is gone")

    loaded = experiment(tmp_path, sealed(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(benchmarks, "measure_sampler", breaks)
        record = run_experiment(loaded)
    assert (record.status, record.benchmarks, len(record.openings)) == ("done", [], 1)
    assert record.failed_benchmarks == {"sealed": "RuntimeError: the service is gone"}
    assert record.conclusion is not None
    assert "failed_test" in {one["kind"] for one in record.conclusion["caveats"]}
    again = run_experiment(loaded, resume=True)
    assert again.failed_benchmarks == {}
    assert len(again.benchmarks) == 2
