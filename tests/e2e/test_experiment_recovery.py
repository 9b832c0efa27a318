"""An experiment on a server of its own, killed in the middle, against one that nobody disturbed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from hone.algorithms.envs.generated import FAMILIES
from hone.experiments.runner.directory import read_record


def write(home: Path) -> Path:
    home.mkdir()
    problems = [FAMILIES["subtract_two_digit"].problem(number, "train") for number in range(32)]
    rows = [{"prompt": one.question, "answer": one.answer, "verifier": "exact"} for one in problems]
    (home / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    steps = {"lr": 0.003, "batch_size": 4, "max_steps": 4}
    values = {
        "name": "killed",
        "matrix": {
            "base_run": {
                "model": {"lora_rank": 4},
                "data": {
                    "source": {"kind": "jsonl", "params": {"path": "rows.jsonl"}},
                    "split": {"validation": 0.25},
                },
                "validation": {"every": 2, "max_tokens": 6},
            },
            "axes": {
                "algorithm": [
                    {"kind": "sft", "params": steps},
                    {"kind": "grpo", "params": {**steps, "group_size": 4, "max_tokens": 6}},
                ]
            },
        },
    }
    file = home / "experiment.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def hone_run(file: Path, *words: str) -> "subprocess.Popen[bytes]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TINKER_", "HONE_"))}
    command = [sys.executable, "-m", "hone.cli.main", "run", str(file), "--json", *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)


def finish(process: "subprocess.Popen[bytes]") -> None:
    _, said = process.communicate(timeout=100)
    assert process.returncode == 0, said.decode()


def essence(home: Path) -> list[dict[str, Any]]:
    """All that arms leave, but for times, tokens and the names that a server gives."""
    record = read_record(home / "runs" / "killed").model_dump(mode="json")
    for arm in record["arms"]:
        arm["usage"] = arm["state_path"] = arm["sampler_path"] = None
        for one in arm["validation"]:
            one["usage"] = None
    arms: list[dict[str, Any]] = record["arms"]
    return arms


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_killed_in_the_middle_it_goes_on_to_the_same_result(tmp_path: Path) -> None:
    whole, cut = write(tmp_path / "whole"), write(tmp_path / "cut")
    undisturbed, process = hone_run(whole), hone_run(cut)
    checkpoints = cut.parent / "runs" / "killed" / "arms"
    while not any(file.read_text() for file in checkpoints.glob("*/run/checkpoints.jsonl")):
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    # Its server notices, and ends; the next one waits for that.
    finish(hone_run(cut, "--resume"))
    finish(undisturbed)
    assert [(arm["training"], arm["evaluation"]) for arm in essence(whole.parent)] == [("done", "done")] * 2
    assert essence(cut.parent) == essence(whole.parent)
    assert (cut.parent / "runs" / "killed" / "report.html").exists()
