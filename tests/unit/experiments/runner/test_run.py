"""Whole experiments on the stand-in service."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hone.errors import UserError
from hone.experiments.loading import LoadedExperiment
from hone.experiments.records import ArmRecord, ExperimentRecord
from hone.experiments.runner.directory import ExperimentDirectory, read_record
from hone.experiments.runner.index import Index
from hone.experiments.runner.run import run_experiment
from tests.support.experiments import SERVICES, experiment, rows, service_of
from tests.support.fake_tinker import FakeService, Request


def test_one_run_leaves_its_evidence(tmp_path: Path) -> None:
    loaded = experiment(tmp_path, {})
    record = run_experiment(loaded)
    (arm,) = record.arms
    assert (record.status, arm.training, arm.evaluation, arm.error) == ("done", "done", "done", None)
    assert [one.step for one in arm.validation] == [0, 2, 4, 6, 7]
    values = [one.metrics["nll"] for one in arm.validation]
    assert values[-1] < values[0] - 0.5
    assert arm.kept_step == arm.steps == arm.total_steps == arm.validation[-1].step
    assert arm.usage.training_tokens > 0
    assert arm.usage.prefill_tokens > 0
    assert arm.usage.cost > 0
    assert (record.metric, record.goal) == ("nll", "min")
    assert len(record.samples) == 5
    directory = tmp_path / "runs" / "try"
    assert read_record(directory) == record
    files = {path.name for path in directory.iterdir()}
    assert {"experiment.yaml", "config.json", "data.json", "code.json", "events.jsonl", "record.json"} <= files
    (folder,) = (directory / "arms").iterdir()
    assert {"config.json", "run", "validation.jsonl", "status.json", "usage.json"} <= {p.name for p in folder.iterdir()}
    (indexed,) = Index(tmp_path / "runs").list()
    assert (indexed.name, indexed.status, indexed.arms, indexed.ended) == ("try", "done", 1, 1)


def arm_of(record: ExperimentRecord, name: str) -> ArmRecord:
    (found,) = [arm for arm in record.arms if arm.name == name]
    return found


def essence(record: ExperimentRecord) -> dict[str, Any]:
    """All but what depends on when and how often something was done."""
    values = record.model_dump(mode="json", exclude={"created", "openings", "conclusion"})
    for arm in values["arms"]:
        arm["usage"] = arm["state_path"] = arm["sampler_path"] = None
        for one in arm["validation"]:
            one["usage"] = None
    return values


METHODS: dict[str, Any] = {
    "name": "methods",
    "matrix": {
        "base_run": {"algorithm": {"params": {"lr": 0.3}}, "validation": {"metrics": ["mean_reward"], "max_tokens": 4}},
        "axes": {"algorithm.kind": ["sft", "dpo", "grpo"]},
    },
    "concurrency": 2,
}


def test_one_yaml_drives_three_methods_and_rows_of_no_use_fail_their_arm_alone(tmp_path: Path) -> None:
    plain = [{name: row[name] for name in ("prompt", "answer", "verifier")} for row in rows()]
    record = run_experiment(experiment(tmp_path, METHODS, given=plain))
    states = {arm.cell["algorithm.kind"]: arm.training for arm in record.arms}
    assert states == {"sft": "done", "dpo": "failed", "grpo": "done"}
    (failed,) = [arm for arm in record.arms if arm.training == "failed"]
    assert failed.error is not None
    assert "rows[" in failed.error
    assert "chosen" in failed.error
    assert record.status == "done"

    record = run_experiment(experiment(tmp_path, METHODS | {"name": "whole"}))
    assert [arm.training for arm in record.arms] == ["done"] * 3
    assert all(arm.kept is not None and set(arm.kept.metrics) == {"mean_reward"} for arm in record.arms)
    best = arm_of(record, "sft")
    assert best.kept is not None
    assert best.kept.metrics["mean_reward"] > best.validation[0].metrics["mean_reward"]


def test_a_backend_that_cannot_be_opened_fails_its_arm_alone_and_two_do_not_interfere(tmp_path: Path) -> None:
    values = {
        "name": "backends",
        "matrix": {
            "base_run": {"validation": {"metrics": ["nll"]}},
            "axes": {
                "backend.params": [{"name": "one"}, {"name": "two"}, {"broken": True}],
            },
        },
    }
    record = run_experiment(experiment(tmp_path, values))
    assert [arm.training for arm in record.arms] == ["done", "done", "failed"]
    assert record.arms[2].error == "the service does not answer"
    one, two = record.arms[:2]
    assert [m.metrics for m in one.validation] == [m.metrics for m in two.validation]
    homes = [home for home in SERVICES if (tmp_path / "runs" / "backends").resolve() in home.parents]
    assert len(homes) == 2
    assert all(SERVICES[home].kinds().count("optim_step") == one.steps for home in homes)


def test_an_experiment_of_failures_has_failed(tmp_path: Path) -> None:
    record = run_experiment(experiment(tmp_path, {"run": {"backend": {"params": {"broken": True}}}}))
    assert (record.status, record.arms[0].training, record.arms[0].evaluation) == ("failed", "failed", "skipped")


def test_what_has_ended_is_not_done_again(tmp_path: Path) -> None:
    loaded = experiment(tmp_path, {})
    record = run_experiment(loaded)
    asked = len(service_of(loaded).requests)
    assert run_experiment(loaded) == record
    assert essence(run_experiment(loaded, resume=True)) == essence(record)
    # Resumed, it asks for a tokenizer at most.
    assert len(service_of(loaded).requests) == asked


def test_a_file_that_has_changed_never_goes_on_with_old_arms_in_silence(tmp_path: Path) -> None:
    def sweep(*rates: float) -> LoadedExperiment:
        axes = {"algorithm.params.lr": list(rates)}
        return experiment(tmp_path, {"matrix": {"base_run": {}, "axes": axes}})

    first = run_experiment(sweep(0.1, 0.2))
    with pytest.raises(UserError, match=r"another configuration \(differing: matrix\.axes"):
        run_experiment(sweep(0.2, 0.3))
    service = service_of(sweep(0.2, 0.3))
    before = service.kinds().count("optim_step")
    record = run_experiment(sweep(0.2, 0.3), resume=True)
    assert [arm.cell["algorithm.params.lr"] for arm in record.arms] == [0.2, 0.3]
    assert record.arms[0].validation == first.arms[1].validation
    assert service.kinds().count("optim_step") - before == record.arms[1].steps


def test_rows_that_have_changed_make_another_arm(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    data = {"data": {"source": {"kind": "jsonl", "params": {"path": "rows.jsonl"}}}}

    def run(resume: bool = False) -> ExperimentRecord:
        return run_experiment(experiment(tmp_path, {"run": data}), resume=resume)

    file.write_text("".join(json.dumps(row) + "\n" for row in rows(16)))
    first = run()
    file.write_text("".join(json.dumps(row) + "\n" for row in rows(24)))
    with pytest.raises(UserError, match=r"results of other rows \(differing: train"):
        run()
    second = run(resume=True)
    assert second.data_fingerprints != first.data_fingerprints
    assert second.arms[0].steps > first.arms[0].steps


def test_the_seed_reaches_training_and_repeats_differ(tmp_path: Path) -> None:
    values: dict[str, Any] = {"repeats": {"n": 2, "base_seed": 3}}
    record = run_experiment(experiment(tmp_path, values))
    assert [arm.seed for arm in record.arms] == [3, 4]
    assert len({arm.group for arm in record.arms}) == 1
    first, second = ([one.metrics["nll"] for one in arm.validation] for arm in record.arms)
    assert first[0] == second[0]
    assert first[1:] != second[1:]
    (tmp_path / "again").mkdir()
    again = run_experiment(experiment(tmp_path / "again", values))
    assert essence(again)["arms"] == essence(record)["arms"]


class Killed(BaseException):
    """The process ends here."""


def killing(at: int) -> Callable[[Request], None]:
    count = 0

    def look(request: Request) -> None:
        nonlocal count
        count += 1
        if count == at:
            raise Killed

    return look


COMPETITION: dict[str, Any] = {
    "name": "competition",
    "matrix": {
        "base_run": {
            "algorithm": {"params": {"batch_size": 4, "epochs": 2}},
            "validation": {"keep": "best"},
            "stop": {"halving": {"rungs": [4, 8]}, "patience": 3},
        },
        "axes": {"algorithm.params.lr": [0.01, 0.1, 0.3, 1.0]},
    },
    "repeats": {"n": 2},
    "concurrency": 2,
    "selection": {"metric": "nll", "goal": "min"},
}


def test_halving_leaves_the_better_arms_and_needs_no_more_slots_than_there_are(tmp_path: Path) -> None:
    record = run_experiment(experiment(tmp_path, COMPETITION))
    steps = {arm.group: arm.steps for arm in record.arms}
    assert sorted(steps.values()) == [4, 4, 8, 14]
    assert all(steps[arm.group] == arm.steps for arm in record.arms)
    stopped = [arm for arm in record.arms if arm.steps < 14]
    assert all(arm.training == "stopped" and "halving" in str(arm.error) for arm in stopped)
    assert all(arm.kept is not None and arm.evaluation == "done" for arm in record.arms)
    kept = {arm.name: arm.kept.metrics["nll"] for arm in record.arms if arm.kept}
    for arm in record.arms:
        assert kept[arm.name] == min(one.metrics["nll"] for one in arm.validation if one.step)


def test_killed_anywhere_it_goes_on_to_the_same_result(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = experiment(tmp_path / "whole", COMPETITION)
    expected = essence(run_experiment(whole))
    requests = len(service_of(whole).requests)
    for at in range(1, requests, requests // 7):
        home = tmp_path / str(at)
        home.mkdir()
        loaded = experiment(home, COMPETITION)
        _prepared(loaded).on_request = killing(at)
        with pytest.raises(Killed):
            run_experiment(loaded)
        with pytest.raises(UserError, match="has not ended"):
            run_experiment(loaded)
        service_of(loaded).on_request = None
        assert essence(run_experiment(loaded, resume=True)) == expected, at


def _prepared(loaded: LoadedExperiment) -> FakeService:
    """The service that an experiment will open."""
    from hone.experiments.runner.directory import identity

    spec = loaded.config.matrix.base_run.backend if loaded.config.matrix else loaded.config.run.backend  # type: ignore[union-attr]
    directory = loaded.home / loaded.config.output_dir / loaded.config.name
    home = directory / "backend" / f"{spec.kind}-{identity(spec.kind, spec.params)}"
    return SERVICES.setdefault(home.resolve(), FakeService())


def test_ctrl_c_saves_and_it_goes_on_to_the_same_result(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    expected = essence(run_experiment(experiment(tmp_path / "whole", {})))
    loaded = experiment(tmp_path, {})

    def interrupt(request: Request) -> None:
        if request.kind == "optim_step" and service.kinds().count("optim_step") == 3:
            os.kill(os.getpid(), signal.SIGINT)

    service = _prepared(loaded)
    service.on_request = interrupt
    record = run_experiment(loaded)
    assert (record.status, record.arms[0].training) == ("stopped", "waiting")
    assert record.conclusion is None
    assert service.kinds().count("optim_step") == 3
    assert None in {service.lifetimes[path] for path in service.lifetimes}  # nobody knows when it goes on
    assert essence(run_experiment(loaded, resume=True)) == expected
    assert service.kinds().count("optim_step") == record.arms[0].total_steps


def test_an_evaluation_that_fails_leaves_the_trained_arm_and_can_be_done_again(tmp_path: Path) -> None:
    loaded = experiment(tmp_path, {})
    service = _prepared(loaded)

    def refuse(request: Request) -> None:
        if request.kind == "compute_logprobs":
            raise UserError("no scores today")

    service.on_request = refuse
    record = run_experiment(loaded)
    (arm,) = record.arms
    assert (arm.training, arm.evaluation, arm.error) == ("done", "failed", "no scores today")
    assert arm.state_path is not None
    service.on_request = None
    steps = service.kinds().count("optim_step")
    (again,) = run_experiment(loaded, resume=True).arms
    assert (again.training, again.evaluation, again.error) == ("done", "done", None)
    assert again.kept is not None
    assert again.state_path == arm.state_path
    assert service.kinds().count("optim_step") == steps


def test_the_best_checkpoint_is_kept_and_does_not_expire(tmp_path: Path) -> None:
    # So high a rate that the model is worse at the end than in the middle.
    values = {"run": {"algorithm": {"params": {"lr": 30.0, "epochs": 3}}, "validation": {"keep": "best"}}}
    loaded = experiment(tmp_path, values)
    (arm,) = run_experiment(loaded).arms
    assert arm.kept is not None
    assert arm.kept_step != arm.steps
    assert arm.kept.metrics["nll"] == min(one.metrics["nll"] for one in arm.validation if one.step)
    service = service_of(loaded)
    assert service.lifetimes[str(arm.state_path)] is service.lifetimes[str(arm.sampler_path)] is None
    assert any(lifetime is not None for lifetime in service.lifetimes.values())


def test_an_arm_without_progress_stops(tmp_path: Path) -> None:
    values = {"run": {"algorithm": {"params": {"lr": 1e-6, "epochs": 3}}, "stop": {"patience": 2, "min_delta": 0.01}}}
    (arm,) = run_experiment(experiment(tmp_path, values)).arms
    assert (arm.training, arm.steps) == ("stopped", 4)
    assert "no better nll in 2 measurements" in str(arm.error)
    assert arm.kept is not None


def test_measured_at_the_end_only(tmp_path: Path) -> None:
    (arm,) = run_experiment(experiment(tmp_path, {"run": {"validation": {"every": 0}}})).arms
    assert [one.step for one in arm.validation] == [arm.total_steps]


def test_a_budget_keeps_arms_from_beginning_and_stops_those_that_run(tmp_path: Path) -> None:
    axes = {"algorithm.params.lr": [0.1, 0.2, 0.3]}
    values: dict[str, Any] = {"matrix": {"base_run": {}, "axes": axes}, "concurrency": 1}
    (tmp_path / "free").mkdir()
    free = run_experiment(experiment(tmp_path / "free", values))
    one = free.arms[0].usage
    tokens = one.training_tokens + one.prefill_tokens + one.sample_tokens

    loaded = experiment(tmp_path, values | {"budget": {"tokens": int(2.5 * tokens)}})
    record = run_experiment(loaded)
    assert [arm.training for arm in record.arms] == ["done", "done", "skipped"]
    assert "budget" in str(record.arms[2].error)

    (tmp_path / "small").mkdir()
    record = run_experiment(experiment(tmp_path / "small", values | {"budget": {"tokens": tokens // 2}}))
    assert [arm.training for arm in record.arms] == ["stopped", "skipped", "skipped"]
    assert 0 < record.arms[0].steps < record.arms[0].total_steps
    assert record.arms[0].kept is not None

    # The same experiment with a larger budget goes on.
    record = run_experiment(experiment(tmp_path / "small", values), resume=True)
    assert essence(record)["arms"] == essence(free)["arms"]


def test_some_arms_now_and_the_others_later(tmp_path: Path) -> None:
    axes = {"algorithm.params.lr": [0.1, 0.2]}
    loaded = experiment(tmp_path, {"matrix": {"base_run": {"name": "try"}, "axes": axes}})
    first, second = (arm.name for arm in run_experiment(loaded, only=["*0.2*"]).arms)
    record = read_record(tmp_path / "runs" / "try")
    assert [arm.training for arm in record.arms] == ["waiting", "done"]
    assert record.status == "waiting"
    record = run_experiment(loaded, resume=True)
    assert [arm.training for arm in record.arms] == ["done", "done"]
    assert record.status == "done"
    with pytest.raises(UserError, match=f"there are {first}, {second}"):
        run_experiment(loaded, resume=True, only=["nothing"])


def test_two_processes_do_not_run_the_same_experiment(tmp_path: Path) -> None:
    loaded = experiment(tmp_path, {})
    directory = ExperimentDirectory(tmp_path / "runs" / "try")
    with directory.locked(), pytest.raises(UserError, match=f"pid {os.getpid()}"):
        run_experiment(loaded)


def test_weights_go_on_from_another_experiment(tmp_path: Path) -> None:
    first = run_experiment(experiment(tmp_path, {"name": "first"}))
    chained = {"run": {"model": {"init_from_checkpoint": "first"}}}
    second = run_experiment(experiment(tmp_path, {"name": "second"} | chained))
    assert first.arms[0].kept is not None
    assert second.arms[0].validation[0].metrics == first.arms[0].kept.metrics
    named = {"run": {"model": {"load_checkpoint": f"first/{first.arms[0].name}"}}}
    third = run_experiment(experiment(tmp_path, {"name": "third"} | named))
    assert third.arms[0].validation[0].metrics == first.arms[0].kept.metrics
    assert third.arms[0].validation[-1].metrics != second.arms[0].validation[-1].metrics
    lost = run_experiment(experiment(tmp_path, {"name": "lost", "run": {"model": {"init_from_checkpoint": "first/x"}}}))
    assert (lost.status, lost.arms[0].training) == ("failed", "failed")
    assert "has no arm 'x'" in str(lost.arms[0].error)


def test_killed_while_it_ends_it_has_not_ended(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = experiment(tmp_path / "whole", {})
    expected = run_experiment(whole)
    loaded = experiment(tmp_path, {})
    _prepared(loaded).on_request = killing(len(service_of(whole).requests))  # the last answer that is shown
    with pytest.raises(Killed):
        run_experiment(loaded)
    assert read_record(tmp_path / "runs" / "try").arms[0].evaluation == "done"
    with pytest.raises(UserError, match="has not ended"):
        run_experiment(loaded)
    service_of(loaded).on_request = None
    assert essence(run_experiment(loaded, resume=True)) == essence(expected)
