"""`hone check`, and what `hone run` does before it begins."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hone.cli.init import project_files
from hone.cli.main import main
from hone.cli.shapes import Plan
from hone.experiments.check import CheckReport
from tests.support.registries import own_plugins


@pytest.fixture
def experiment(tmp_path: Path) -> Iterator[str]:
    for name, text in project_files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    with own_plugins():
        yield str(tmp_path / "experiment.yaml")


def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_the_project_of_init_has_no_problem(experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", experiment, "--json"]) == 0
    report = CheckReport.model_validate(printed(capsys))
    assert (report.problems, report.warnings) == ([], [])
    assert len(report.arms) == 6
    assert [(data.kind, data.rows) for data in report.data] == [("chat", 1375)]
    assert [overlap.leaked for overlap in report.overlaps] == [0]
    assert report.estimate is not None


def test_in_the_terminal(experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", experiment]) == 0
    shown = capsys.readouterr().out
    assert "6 arms: lr0.01 (3 seeds), lr0.001 (3 seeds)" in shown
    assert "1,375 chat rows" in shown
    assert "0 of 155 test rows are in" in shown
    assert shown.endswith("nothing is wrong\n")
    assert main(["check", experiment, "--set", "repeats.n=1", "--shallow"]) == 0
    assert capsys.readouterr().out.endswith("no problems, 1 warning\n")


def test_problems_are_exit_code_3_whoever_finds_them(experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    for setting, key in (
        ("repeats.m=2", "repeats.m"),  # the schema
        ("budget.tokens=many", "budget.tokens"),
        ("selection.metric=nll", "selection.metric"),  # the check
    ):
        for words in (["check", "--shallow"], ["run"], ["run", "--dry-run"]):
            assert main([*words, experiment, "--set", setting, "--json"]) == 3
            found = printed(capsys)
            problems = found["check"]["problems"] if words[0] == "run" else found["problems"]
            assert key in [one["key"] for one in problems]
    assert main(["check", experiment, "--shallow", "--set", "repeats.m=2"]) == 3
    assert capsys.readouterr().out.endswith("1 problem; nothing was begun\n")
    assert not (Path(experiment).parent / "runs").exists()


def test_a_budget_that_is_too_small_is_exit_code_4(experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["run", experiment, "--set", "budget.tokens=1000"]
    assert main([*small, "--json"]) == 4
    assert [one.key for one in Plan.model_validate(printed(capsys)).check.problems] == ["budget.tokens"]
    assert main([*small, "--set", "selection.metric=nll"]) == 3  # more is wrong than the budget
    assert not (Path(experiment).parent / "runs").exists()


def test_a_file_that_is_not_there_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("check", "run"):
        assert main([verb, str(tmp_path / "none.yaml")]) == 2
        assert "none.yaml cannot be read" in capsys.readouterr().err


def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", experiment, "--dry-run", "--json", "--set", "budget.tokens=500000"]) == 0
    plan = Plan.model_validate(printed(capsys))
    assert plan.directory == str(Path(experiment).parent / "runs" / "dates")
    assert plan.budget.tokens == 500000
    assert plan.check.estimate is not None
    assert not (Path(experiment).parent / "runs").exists()
