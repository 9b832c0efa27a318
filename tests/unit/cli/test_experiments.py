"""`hone experiments`, `hone diff` and `hone history`, on records that lie there already."""

import json
from pathlib import Path
from typing import Any

import pytest

from hone.cli.main import main
from hone.cli.run import exit_code
from hone.experiments.records import ArmRecord, BenchmarkResult, ExperimentRecord, Usage
from hone.experiments.runner.directory import ExperimentDirectory, read_record
from hone.experiments.summary import Summary
from tests.support.experiment_records import METRIC, arm, failed_arm, measurement, record


def sample(name: str = "books", **more: Any) -> ExperimentRecord:
    better, worse = measurement([1, 1, 1, 0]), measurement([0, 1, 0, 0])
    arms = [arm("high", better, cell={"algorithm.params.lr": 0.01}), arm("low", worse), failed_arm("broken")]
    config = {"name": name, "hypothesis": {"statement": "high beats low"}, "tags": ["first"]}
    asked = better.model_copy(update={"usage": Usage(sample_tokens=70)})
    tested = BenchmarkResult(benchmark="exam", subject="high", measurement=asked)
    return record(arms, name=name, id=f"{name}-0123", config=config, benchmarks=[tested], **more)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for made in (sample(), sample("later", created="2026-11-22T12:00:00Z")):
        directory = ExperimentDirectory(tmp_path / made.name)
        directory.path.mkdir()
        directory.write_record(made)
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_list_and_show(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = printed(capsys, "experiments", "list", "--dir", str(results))["experiments"]
    assert [one["name"] for one in listed] == ["later", "books"]
    shown = Summary.model_validate(printed(capsys, "experiments", "show", "books", "--dir", str(results)))
    assert shown.model_dump(mode="json") == listed[1]
    assert [one.training for one in shown.arms] == ["done", "done", "failed"]
    assert shown.arms[0].metrics == {METRIC: 0.75}
    assert shown.benchmarks == {"exam": {"high": {METRIC: 0.75}}}
    assert shown.usage.training_tokens == sum(one.usage.training_tokens for one in shown.arms) > 0
    assert shown.usage.sample_tokens == sum(one.usage.sample_tokens for one in shown.arms) + 70  # of the test
    assert shown.hypothesis == "high beats low"

    assert main(["experiments", "show", str(results / "books")]) == 0  # a path in place of a name
    text = capsys.readouterr().out
    assert "hypothesis: high beats low" in text
    assert "the loss was not a number" in text
    assert main(["experiments", "list", "--dir", str(results)]) == 0
    assert "high beats low" in capsys.readouterr().out


def test_nothing_there_is_no_error_but_an_unknown_name_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = str(tmp_path / "runs")
    assert printed(capsys, "experiments", "list", "--dir", nowhere) == {"experiments": []}
    assert main(["experiments", "show", "books", "--dir", nowhere]) == 2
    assert nowhere in capsys.readouterr().err


def finished(*arms: ArmRecord, **more: Any) -> ExperimentRecord:
    return record(arms, **more)


good = arm("good", measurement([1.0]))
unmeasured = good.model_copy(update={"evaluation": "failed", "error": "the grader broke"})
skipped = failed_arm("late", "budget: 3 arms have begun", training="skipped")


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (finished(good), 0),
        (finished(good, good.model_copy(update={"training": "stopped"})), 0),  # early, on purpose
        (finished(good, failed_arm("broken")), 1),
        (finished(good, unmeasured), 1),
        (finished(good, failed_benchmarks={"exam": "the judge does not answer"}), 1),
        (finished(failed_arm("broken"), status="failed"), 1),
        (finished(good, skipped), 4),
        (finished(good, failed_arm("broken"), skipped), 4),
        (finished(good, status="stopped"), 130),
    ],
)
def test_exit_codes_of_a_run(made: ExperimentRecord, code: int) -> None:
    assert exit_code(made) == code


def test_conclude_writes_what_the_record_says(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = printed(capsys, "experiments", "conclude", "books", "--dir", str(results))
    assert said["verdict"] in ("supported", "refuted", "inconclusive")
    assert Path(said["report"]).read_text().lstrip().startswith("<!")
    assert read_record(results / "books").conclusion is None  # the runner's files stay as they were
    assert main(["experiments", "conclude", "books", "--dir", str(results)]) == 0
    assert "high beats low" in capsys.readouterr().out


def test_compare_and_diff(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "experiments", "compare", "books", "later", "--dir", str(results))
    between_arms = printed(capsys, "diff", "books/high", "books/low", "--dir", str(results))
    assert between_arms == printed(capsys, "diff", "books/high", "later/low", "--dir", str(results))
    assert main(["diff", "books/high", "books/none", "--dir", str(results)]) == 2
    assert "it has high, low, broken" in capsys.readouterr().err
    assert main(["diff", "books/high", "later", "--dir", str(results)]) == 2
    assert "cannot be compared" in capsys.readouterr().err


def test_history(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(printed(capsys, "history", "--dir", str(results))["experiments"]) == 2
    assert printed(capsys, "history", "--tag", "second", "--dir", str(results)) == {"experiments": []}
