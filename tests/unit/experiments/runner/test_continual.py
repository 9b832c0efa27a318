"""Stages that are learned one after another."""

import json
from pathlib import Path
from typing import Any

import pytest

from hone.experiments.runner.run import run_experiment
from tests.support.experiments import WORDS, experiment, service_of
from tests.support.fake_tinker import Refused, Request


def stage(name: str, answer: str, words: list[str], **more: Any) -> dict[str, Any]:
    rows = [{"prompt": word, "completion": answer} for word in words]
    source = {"kind": "rows", "params": {"rows": rows}}
    return {"name": name, "data": {"source": source, "split": {"validation": 0.3}}, **more}


def two(replay: float = 0.0, **run: Any) -> dict[str, Any]:
    """The same kind of question, answered in two ways: the second stage is learned at the expense of the first."""
    stages = [stage("first", "x", WORDS[:16]), stage("second", "y", WORDS[16:], replay=replay)]
    params = {"lr": 0.3, "batch_size": 4, "epochs": 3}
    return {"run": {"algorithm": {"params": params}, **run}, "continual": {"stages": stages}}


def matrix(record: Any, arm: str) -> dict[tuple[str, str], float]:
    return {(one.after, one.on): one.measurement.metrics["nll"] for one in record.forgetting if one.arm == arm}


def test_weights_are_carried_and_every_stage_is_measured_after_every_stage(tmp_path: Path) -> None:
    record = run_experiment(experiment(tmp_path, two()))
    (arm,) = record.arms
    assert (arm.training, arm.evaluation, arm.error) == ("done", "done", None)
    found = matrix(record, arm.name)
    assert set(found) == {(after, on) for after in ("start", "first", "second") for on in ("first", "second")}
    assert found["first", "first"] < found["start", "first"] - 1
    assert found["second", "second"] < found["first", "second"] - 1
    assert found["second", "first"] > found["first", "first"] + 0.2  # forgotten
    assert arm.steps == arm.total_steps == arm.kept_step


def test_replay_keeps_what_was_learned(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    plain = run_experiment(experiment(tmp_path / "plain", two()))
    mixed = run_experiment(experiment(tmp_path, two(replay=0.5)))
    kept, lost = (matrix(one, one.arms[0].name)["second", "first"] for one in (mixed, plain))
    assert kept < lost - 0.15
    assert mixed.arms[0].total_steps > plain.arms[0].total_steps


def test_stages_are_measured_at_their_ends_though_nothing_is_measured_within(tmp_path: Path) -> None:
    record = run_experiment(experiment(tmp_path, two(validation={"every": 0})))
    start, first, second = (one.step for one in record.arms[0].validation)
    assert start == 0 < first < second == record.arms[0].total_steps
    assert len(record.forgetting) == 6


def test_repeats_of_stages_have_a_matrix_each(tmp_path: Path) -> None:
    record = run_experiment(experiment(tmp_path, two() | {"repeats": {"n": 2}}))
    first, second = (matrix(record, arm.name) for arm in record.arms)
    assert first.keys() == second.keys()
    assert first["second", "first"] != second["second", "first"]


def test_a_state_that_is_gone_is_an_error_and_no_new_beginning(tmp_path: Path) -> None:
    loaded = experiment(tmp_path, two())
    (tmp_path / "runs").mkdir()
    from tests.unit.experiments.runner.test_run import _prepared

    service = _prepared(loaded)

    def lose(request: Request) -> None:
        if request.kind == "save_state" and request.facts["name"] == "final":
            service._load = gone  # type: ignore[method-assign]

    def gone(path: str, kind: str) -> Any:
        raise Refused(f"{path} has expired")

    service.on_request = lose
    (arm,) = run_experiment(loaded).arms
    assert arm.training == "failed"
    assert "has expired" in str(arm.error)
    assert 0 < service_of(loaded).kinds().count("optim_step") < arm.total_steps


def test_stopping_early_is_not_for_stages(tmp_path: Path) -> None:
    record = run_experiment(experiment(tmp_path, two(stop={"patience": 2})))
    assert record.status == "failed"
    assert "every stage to its end" in str(record.arms[0].error)


def with_benchmark(home: Path) -> dict[str, Any]:
    """The first stage has a benchmark."""
    tasks = [{"prompt": word, "answer": "x", "verifier": "begins"} for word in ("zz", "zy", "zx", "zw", "zv", "zu")]
    (home / "sealed.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    values = two()
    values["continual"]["stages"][0]["benchmark"] = "sealed"
    return values | {"benchmarks": [{"name": "sealed", "path": "sealed.jsonl", "samples": 4, "max_tokens": 2}]}


def test_a_stage_with_a_benchmark_is_measured_by_it_and_opened_for_the_chosen_arm_alone(tmp_path: Path) -> None:
    loaded = experiment(tmp_path, with_benchmark(tmp_path) | {"repeats": {"n": 2}})
    record = run_experiment(loaded)
    found = [one for one in record.forgetting if "mean_reward" in one.measurement.metrics]
    (chosen,) = {one.arm for one in found}
    assert {(one.after, one.on) for one in found} == {(after, "first") for after in ("start", "first", "second")}
    rewards = {one.after: one.measurement.metrics["mean_reward"] for one in found}
    assert rewards["first"] > rewards["start"]
    assert {name for opening in record.openings for name in opening.arms} == {record.openings[0].arms[0]}
    assert len(record.openings) <= 2
    assert len(record.forgetting) == 2 * 6
    assert run_experiment(loaded, resume=True).forgetting == record.forgetting
    assert chosen in {arm.name for arm in record.arms}


def test_a_benchmark_of_a_stage_that_breaks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hone.experiments.runner import ending

    async def breaks(*given: Any) -> Any:
        raise RuntimeError("the service is gone")

    loaded = experiment(tmp_path, with_benchmark(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(ending, "measure_weights", breaks)
        record = run_experiment(loaded)
    assert record.failed_benchmarks == {"sealed": "RuntimeError: the service is gone"}
    assert run_experiment(loaded, resume=True).failed_benchmarks == {}
