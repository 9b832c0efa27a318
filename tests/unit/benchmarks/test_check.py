"""The guard against becoming slower: what it calls worse."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.check import RECORD, Verdict, best, compare, table, worst

ROOT = Path(__file__).parents[3]


def test_a_ratio_may_lose_the_tolerance_and_no_more() -> None:
    verdicts = compare({"train": 2.0, "decode": 1.0}, {"train": 1.7, "decode": 0.84}, 0.15)
    assert verdicts == [Verdict("train", 2.0, 1.7, False), Verdict("decode", 1.0, 0.84, True)]


def test_a_benchmark_that_vanished_is_worse_and_a_new_one_is_not() -> None:
    verdicts = compare({"gone": 1.0}, {"new": 0.1}, 0.15)
    assert verdicts == [Verdict("gone", 1.0, None, True), Verdict("new", None, 0.1, False)]


def test_the_better_of_two_measurements_counts_and_the_worse_is_recorded() -> None:
    first, second = {"a": 1.0, "b": 3.0, "c": 5.0}, {"a": 2.0, "b": 1.0}
    assert best(first, second) == {"a": 2.0, "b": 3.0, "c": 5.0}
    assert worst(first, second) == {"a": 1.0, "b": 1.0, "c": 5.0}


def test_the_table_names_what_is_worse() -> None:
    lines = table([Verdict("train", 2.0, 1.5, True), Verdict("new", None, 1.0, False)], 0.15).splitlines()
    assert lines[1].split() == ["train", "2.00", "1.50", "1.70", "WORSE"]
    assert lines[2].split() == ["new", "-", "1.00", "-"]
    assert lines[-1] == "1 of 2 ratios are worse than recorded"


def test_the_record_holds_ratios() -> None:
    recorded = json.loads(RECORD.read_text())
    assert recorded
    assert all(ratio > 0 for ratio in recorded.values())


def test_everything_that_is_recorded_is_measured() -> None:
    command = [sys.executable, "-m", "benchmarks.engine", "--rounds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    rows = {row["metric"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert all(rows[metric]["ratio"] > 0 for metric in json.loads(RECORD.read_text()))
    assert rows["publish"]["value"] > 0
    assert rows["peak_memory"]["value"] > 100
