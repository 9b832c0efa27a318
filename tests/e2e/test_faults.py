"""The fault harness itself, shortened: a few kills of supervised and of reinforcement learning."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).parents[2] / "benchmarks" / "faults.py"


@pytest.mark.slow
@pytest.mark.timeout(240)  # half a minute where nothing else runs; whatever is slow is killed more often
@pytest.mark.parametrize("workload", ["sft", "rl"])
def test_a_few_kills_change_no_bit(workload: str) -> None:
    command = [sys.executable, str(HARNESS), "--kills", "2", "--steps", "8", "--seed", "3", "--only", workload]
    found = subprocess.run(command, capture_output=True, text=True, timeout=220)
    assert found.returncode == 0, found.stdout + found.stderr
    (row,) = map(json.loads, found.stdout.splitlines())
    assert sum(row["kills"].values()) >= 2
    assert row["identical_runs"] == row["runs"] > 0
    assert row["client_errors"] == []
    assert all(kind[1:] == [kind[1], kind[1], 0, 0, 0] for kind in row["journal"]), "each number once, all answered"
