"""Whole experiments on the stand-in service."""

from pathlib import Path
from typing import Any

import pytest

from hone.errors import UserError
from hone.experiments.records import ArmRecord, ExperimentRecord
from hone.experiments.runner.directory import read_record
from hone.experiments.runner.index import Index
from hone.experiments.runner.run import run_experiment
from tests.support.experiments import experiment, service_of


def test_one_run_leaves_its_evidence(tmp_path: Path) -> None:
    loaded = experiment(tmp_path, {})
    record = run_experiment(loaded)
    (arm,) = record.arms
    assert (record.status, arm.training, arm.evaluation, arm.error) == ("done", "done", "done", None)
    assert [one.step for one in arm.validation] == [0, 2, 4, 6, 8][: len(arm.validation)]
    values = [one.metrics["nll"] for one in arm.validation]
    assert values[-1] < values[0] - 0.5
    assert arm.kept_step == arm.steps == arm.total_steps == arm.validation[-1].step
    assert arm.usage.training_tokens > 0 and arm.usage.prefill_tokens > 0 and arm.usage.cost > 0
    assert (record.metric, record.goal) == ("nll", "min")
    assert len(record.samples) == 3
    directory = tmp_path / "runs" / "try"
    assert read_record(directory) == record
    files = {path.name for path in directory.iterdir()}
    assert {"experiment.yaml", "config.json", "data.json", "code.json", "events.jsonl", "record.json"} <= files
    (folder,) = (directory / "arms").iterdir()
    assert {"config.json", "run", "validation.jsonl", "status.json", "usage.json"} <= {p.name for p in folder.iterdir()}
    (indexed,) = Index(tmp_path / "runs").list()
    assert (indexed.name, indexed.status, indexed.arms, indexed.ended) == ("try", "done", 1, 1)
