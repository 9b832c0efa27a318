"""A test set comes out only when it is written down who looks, and only as often as it may."""

import ast
import asyncio
import json
import os
import threading
from pathlib import Path

import pytest

import hone.experiments
from hone.errors import UserError
from hone.experiments import firewall
from hone.experiments.config import BenchmarkConfig, DataConfig, Spec
from hone.experiments.data.load import load_sides
from hone.experiments.data.parse import parse
from hone.experiments.firewall import Ledger, Sealed
from hone.experiments.kinds.contract import RawRow

ROWS = [{"prompt": f"What is the colour of planet {i}?", "answer": f"colour {i}"} for i in range(20)]
WHO, WHY = "ada", "the end of the experiment"


def benchmark(rows=ROWS, **config):
    source = {"kind": "rows", "params": {"rows": rows}}
    return BenchmarkConfig.model_validate({"name": "planets", "source": source} | config)


def sealed(rows=ROWS, **config):
    return Sealed(benchmark(rows, **config), Path())


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "deep/openings.jsonl")


def test_opening_is_written_down_and_gives_the_tasks(ledger):
    test = sealed(overlap={"waiver": "known"})
    tasks = test.open(ledger, WHO, WHY, ["a", "baseline"])
    assert {task.gold for task in tasks} == {f"colour {i}" for i in range(20)}
    (opening,) = ledger.openings
    assert (opening.benchmark, opening.who, opening.why, opening.arms) == ("planets", WHO, WHY, ["a", "baseline"])
    assert (opening.fingerprint, opening.overlap_waiver) == (test.fingerprint(), "known")
    assert opening.when.endswith("+00:00")


def test_it_is_on_disk_before_rows_come_out(ledger, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(ledger.path.read_bytes()), real(handle)))
    sealed().open(ledger, WHO, WHY, ["a"])
    assert json.loads(synced[-1])["arms"] == ["a"]

    def full(handle):
        raise OSError(28, "no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        sealed(openings=2).open(ledger, WHO, WHY, ["b"])


def test_another_arm_is_another_opening_and_the_same_one_is_none(ledger):
    sealed().open(ledger, WHO, WHY, ["a"])
    for _ in range(3):  # after a crash
        assert len(sealed().open(ledger, WHO, "again", ["a", "baseline"])) == 20
    with pytest.raises(
        UserError, match="'planets' may be opened once in this experiment, and was for a; b would be more"
    ):
        sealed().open(ledger, WHO, WHY, ["b"])
    assert [opening.arms for opening in ledger.openings] == [["a"], *[["a", "baseline"]] * 3]
    sealed(openings=2).open(ledger, WHO, WHY, ["b"])
    with pytest.raises(UserError, match="may be opened 2 times"):
        sealed(openings=2).open(ledger, WHO, WHY, ["c"])


def test_two_arms_at_once_are_two_openings(ledger):
    with pytest.raises(UserError, match="was for nothing yet; a, b would be more"):
        sealed().open(ledger, WHO, WHY, ["a", "b"])
    assert not ledger.openings
    sealed(openings=2).open(ledger, WHO, WHY, ["a", "b"])


def test_the_baseline_costs_nothing_and_other_benchmarks_count_for_themselves(ledger):
    sealed().open(ledger, WHO, WHY, ["baseline"])
    sealed().open(ledger, WHO, WHY, ["a"])
    sealed(name="moons").open(ledger, WHO, WHY, ["b"])
    assert len(ledger.openings) == 3


def test_changed_test_rows_are_another_look(ledger):
    sealed().open(ledger, WHO, WHY, ["a"])
    with pytest.raises(UserError, match="was for a; a would be more"):
        sealed(ROWS[:-1]).open(ledger, WHO, WHY, ["a"])


def test_nobody_opens_it_for_nothing(ledger):
    for who, why, arms in (("", WHY, ["a"]), (WHO, " ", ["a"]), (WHO, WHY, [])):
        with pytest.raises(UserError, match="name all three"):
            sealed().open(ledger, who, why, arms)
    assert not ledger.openings


def test_many_at_once_open_no_more_than_is_allowed(ledger):
    opened, refused = [], []

    def look(arm):
        try:
            sealed(openings=3).open(ledger, WHO, WHY, [arm])
            opened.append(arm)
        except UserError:
            refused.append(arm)

    threads = [threading.Thread(target=look, args=(f"arm{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(opened), len(refused), len(ledger.openings)) == (3, 5, 3)


def test_a_line_that_was_cut_off_opened_nothing_and_a_damaged_one_is_an_error(ledger):
    sealed().open(ledger, WHO, WHY, ["a"])
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole + whole[:40])
    assert len(ledger.openings) == 1
    sealed(openings=2).open(ledger, WHO, WHY, ["b"])
    assert [opening.arms for opening in ledger.openings] == [["a"], ["b"]]
    ledger.path.write_bytes(b"{}\n" + whole)
    with pytest.raises(UserError, match=r"openings\.jsonl:1 is no record of an opening"):
        sealed().open(ledger, WHO, WHY, ["a"])


def test_the_fingerprint_is_of_what_is_asked_and_not_of_its_order():
    test = sealed()
    assert test.fingerprint() == sealed(ROWS[::-1]).fingerprint()
    others = [sealed(ROWS[1:]), sealed([{**ROWS[0], "answer": "x"}, *ROWS[1:]]), sealed(limit=5)]
    assert len({test.fingerprint(), *(other.fingerprint() for other in others)}) == 4
    assert len(test) == 20
    assert len(others[2]) == 5


def test_overlap_is_looked_for_without_opening_anything(ledger):
    training = [parse(RawRow("train:1", {"prompt": ROWS[3]["prompt"].upper(), "completion": "x"}), "chat")]
    report = sealed().check_overlap(training)
    assert [(finding.kind, finding.train, finding.test) for finding in report.findings] == [
        ("normalised", "train:1", "rows[3]")
    ]
    assert report.failed
    assert not sealed(overlap={"waiver": "they are public"}).check_overlap(training).failed
    assert ROWS[3]["prompt"] not in report.model_dump_json()


def test_benchmarks_of_files(tmp_path, ledger):
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite/tasks.jsonl").write_text(lines)
    (tmp_path / "tasks.jsonl").write_text(lines)
    (tmp_path / "harbor/one").mkdir(parents=True)
    (tmp_path / "harbor/one/task.toml").write_text("")
    (tmp_path / "harbor/one/instruction.md").write_text("Do it.")
    for path, count in (("tasks.jsonl", 20), ("suite", 20), ("harbor", 1)):
        test = Sealed(BenchmarkConfig(name=path, path=path), tmp_path)
        assert len(test.open(ledger, WHO, WHY, ["a"])) == count
    with pytest.raises(UserError, match=r"'none\.jsonl' is not there"):
        Sealed(BenchmarkConfig(name="x", path="none.jsonl"), tmp_path).fingerprint()


def test_the_test_side_of_a_split_is_a_benchmark(ledger):
    rows = [{"prompt": f"q{i}", "answer": f"a{i}"} for i in range(200)]
    data = DataConfig.model_validate(
        {"source": {"kind": "rows", "params": {"rows": rows}}, "split": {"test": 0.3, "validation": 0.2}}
    )
    test = Sealed.of_split(data, Path())
    tasks = test.open(ledger, WHO, WHY, ["a"])
    sides = load_sides(data, Path())
    seen = {row.value["prompt"] for side in (sides.train, sides.validation) for row in side}
    asked = {task.prompt[0]["content"] for task in tasks}
    assert asked | seen == {row["prompt"] for row in rows}
    assert not asked & seen
    assert (test.benchmark.name, test.benchmark.metrics) == ("test", ["nll"])
    graded = data.model_copy(update={"verifier": Spec(kind="exact")})
    assert Sealed.of_split(graded, Path()).benchmark.metrics == ["mean_reward"]
    assert Sealed.of_split(data.model_copy(update={"split": None}), Path()) is None


@pytest.mark.parametrize(
    ("row", "gold"),
    [
        ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}, "a"),
        ({"prompt": "q", "completion": "a", "x": 1}, "a"),
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "a"),
        ({"messages": [{"role": "user", "content": "q"}], "answer": "a"}, "a"),
        ({"prompt": "q", "verifier": "exact", "answer": "a"}, "a"),
    ],
)
def test_rows_of_any_form_become_tasks(ledger, row, gold):
    (task,) = sealed([row]).open(ledger, WHO, WHY, ["a"])
    assert ([message["content"] for message in task.prompt], task.gold) == (["q"], gold)


def test_graders_are_tried_with_the_gold_and_with_an_empty_answer():
    rows = [
        {"prompt": "fine", "answer": "a", "verifier": "exact"},
        {"prompt": "gold fails", "answer": "no number 1", "verifier": {"kind": "regex", "params": {"pattern": "^x"}}},
        {"prompt": "empty passes", "verifier": {"kind": "regex", "params": {"pattern": ""}}},
        {"prompt": "no grade", "answer": "words", "verifier": "numeric"},
        {"prompt": "none"},
    ]
    problems = asyncio.run(sealed(rows).check_graders())
    assert sorted(problem.split(": ", 1)[0] for problem in problems) == ["rows[1]", "rows[2]", "rows[3]", "rows[4]"]
    text = "\n".join(problems)
    for expected in ("gold answer does not pass", "an empty answer passes", "no grade: the gold", "has no verifier"):
        assert expected in text
    assert asyncio.run(sealed(rows[:1]).check_graders()) == []


# What chooses, stops and reports cannot get at the rows.


def test_nothing_public_of_a_sealed_set_gives_rows_away(ledger):
    test = sealed()
    told = [name for name in dir(test) if not name.startswith("_")]
    assert sorted(told) == ["benchmark", "check_graders", "check_overlap", "fingerprint", "of_split", "open"]
    for attempt in (iter, list, lambda it: it[0], lambda it: it.rows, lambda it: it.tasks):
        with pytest.raises((TypeError, AttributeError)):
            attempt(test)
    assert "colour" not in repr(test)
    assert not ledger.openings


def test_the_test_side_of_loaded_data_is_no_way_around_it():
    data = DataConfig.model_validate(
        {"source": {"kind": "rows", "params": {"rows": ROWS}}, "split": {"test": 0.5, "validation": 0.2}}
    )
    side = load_sides(data, Path()).test
    for attempt in (list, lambda it: list(it.rows("task")), lambda it: next(iter(it))):
        with pytest.raises(UserError, match="sealed"):
            attempt(side)


def modules():
    root = Path(hone.experiments.__file__).parent
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in root.rglob("*.py")}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def test_only_the_firewall_reads_behind_the_seal():
    reads = {name for name, path in modules().items() if "rows_behind_the_seal" in path.read_text()}
    assert reads == {"firewall", "data/load"}


MAY_OPEN = {"firewall", "check", "runner/benchmarks", "runner/ending"}
"""What looks for leaks before training, and what measures the chosen arm after it. Nothing else needs a test set."""


def test_nothing_that_trains_chooses_stops_or_reports_knows_the_firewall():
    know = {
        name for name, path in modules().items() if any(one.startswith(firewall.__name__) for one in imported(path))
    }
    assert know <= MAY_OPEN
