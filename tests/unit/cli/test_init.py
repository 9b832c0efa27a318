"""`hone init`: what it writes is whole, hangs together, and is the same everywhere."""

import asyncio
import json
from pathlib import Path

import pytest
import yaml

from hone.algorithms.graders.grade import Task
from hone.cli.init import project_files
from hone.cli.main import main
from hone.experiments.config import ExperimentConfig
from hone.experiments.kinds.plugins import load_plugins, verifiers
from tests.support.registries import own_plugins


def test_a_project_is_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "new" / "project"
    assert main(["init", str(target), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made == {"directory": str(target.resolve()), "files": list(project_files())}
    assert all((target / name).stat().st_size for name in made["files"])

    (target / "plugins.py").write_text("mine")
    assert main(["init", str(target)]) == 2
    assert "plugins.py" in capsys.readouterr().err
    assert (target / "plugins.py").read_text() == "mine"


def test_no_date_lies_on_two_sides() -> None:
    files = project_files()

    def dates(side: str) -> set[str]:
        rows = [json.loads(line) for line in files[f"data/{side}.jsonl"].splitlines()]
        return {row["gold"] if "gold" in row else row["messages"][1]["content"] for row in rows}

    sides = [dates(side) for side in ("train", "validation", "exam")]
    assert sum(map(len, sides)) == len(set().union(*sides)) == 12 * 28
    assert all(len(side) >= 25 for side in sides)


def test_the_files_are_the_same_each_time() -> None:
    assert project_files() == project_files()


def test_the_verifier_grades_dates(tmp_path: Path) -> None:
    (tmp_path / "plugins.py").write_text(project_files()["plugins.py"])
    with own_plugins():
        load_plugins(["plugins.py"], tmp_path)
        strict, lenient = (verifiers.make("date", {"half_right": half}).grader() for half in (0.0, 0.5))
    task = Task("Date: 5 March", "03-05")
    for answer, score in ((" 03-05\n", 1.0), ("03-06", 0.0), ("March 5", 0.0), ("", 0.0)):
        assert asyncio.run(strict(task, answer)).score == score
    assert asyncio.run(lenient(task, "03-06")).score == 0.5


def test_the_experiment_is_one() -> None:
    config = ExperimentConfig.model_validate(yaml.safe_load(project_files()["experiment.yaml"]))
    assert config.matrix is not None
    assert config.repeats.n == 3
