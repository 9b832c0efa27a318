"""Kills an experiment at random moments, and shows that it comes to the result of one that nobody disturbed.

    python benchmarks/experiment_kills.py [--kills 20] [--seed 0]

Three arms (SFT, DPO, GRPO on the embedded model, two at a time, with halving after four steps) run once from beginning
to end. Then the same experiment runs again in a process of its own, which is ended with SIGKILL after a random number
of new lines in its files and begun again with `resume`, until there were enough kills; then it is left alone. One JSON
line says whether measurements, steps, choice and verdict are the same. Exits 1 unless they are. Needs the `dev` extra.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from hone.algorithms.envs.generated import FAMILIES
from hone.experiments.loading import experiment_from
from hone.experiments.runner.directory import read_record
from hone.experiments.runner.run import run_experiment

LONGEST_LIFE = 25.0
"""Seconds after which a kill comes anyway: in the middle of a start, or of a wait for the server before."""


def experiment(home: Path) -> Any:
    problems = [FAMILIES["subtract_two_digit"].problem(number, "train") for number in range(64)]
    rows = [
        {
            "prompt": one.question,
            "chosen": one.answer,
            "rejected": f"1{one.answer}",
            "answer": one.answer,
            "verifier": "exact",
        }
        for one in problems
    ]
    params = {"lr": 1e-3, "batch_size": 4, "epochs": 1}
    return experiment_from(
        {
            "name": "killed",
            "matrix": {
                "base_run": {
                    "model": {"lora_rank": 8},
                    "data": {"source": {"kind": "rows", "params": {"rows": rows}}, "split": {"validation": 0.25}},
                    "algorithm": {"params": params},
                    "validation": {"every": 2, "max_tokens": 6, "keep": "best"},
                    "stop": {"halving": {"rungs": [4], "keep": 0.67}},
                },
                "axes": {"algorithm.kind": ["sft", "dpo", "grpo"]},
            },
            "concurrency": 2,
        },
        home,
    )


def run(home: Path) -> None:
    run_experiment(experiment(home), resume=(home / "runs").exists())


def essence(home: Path) -> dict[str, Any]:
    """All but times, tokens and the names that a server gives."""
    record = read_record(home / "runs" / "killed").model_dump(mode="json", exclude={"created", "code", "openings"})
    for arm in record["arms"]:
        arm["usage"] = arm["state_path"] = arm["sampler_path"] = None
        for one in arm["validation"]:
            one["usage"] = None
    conclusion = record["conclusion"]
    record["conclusion"] = {name: conclusion[name] for name in ("verdict", "effect") if name in conclusion}
    return record


def losses(home: Path) -> dict[str, list[Any]]:
    """What every step of every arm reported, times excepted."""
    found: dict[str, list[Any]] = {}
    for file in sorted((home / "runs" / "killed").glob("arms/*/run/metrics.jsonl")):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        found[file.parent.parent.name] = [
            {name: value for name, value in row.items() if not name.startswith("time/")} for row in rows
        ]
    return found


def lines(home: Path) -> int:
    """In all files that grow."""
    return sum(
        file.read_bytes().count(b"\n") for file in (home / "runs").rglob("*.jsonl") if "backend" not in file.parts
    )


def disturbed(home: Path, kills: int, draw: random.Random) -> int:
    """Kills until there were enough or the experiment has ended; returns how many there were."""
    for number in range(kills):
        process = multiprocessing.get_context("spawn").Process(target=run, args=(home,))
        process.start()
        assert process.pid is not None
        deadline = time.monotonic() + draw.uniform(1.0, LONGEST_LIFE)
        wanted = lines(home) + draw.randint(1, 6)
        while process.is_alive() and time.monotonic() < deadline and lines(home) < wanted:
            time.sleep(draw.uniform(0.0, 0.05))
        if not process.is_alive():
            return number
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    return kills


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hone-kills-") as scratch:
        whole, cut = Path(scratch) / "whole", Path(scratch) / "cut"
        for home in (whole, cut):
            home.mkdir()
        began = time.monotonic()
        run(whole)
        alone = time.monotonic() - began
        kills = disturbed(cut, args.kills, random.Random(args.seed))
        run(cut)
        facts = {
            "kills": kills,
            "same_result": essence(whole) == essence(cut),
            "same_steps": losses(whole) == losses(cut),
            "steps": sum(len(rows) for rows in losses(whole).values()),
            "seconds_undisturbed": round(alone, 1),
            "seconds_in_all": round(time.monotonic() - began, 1),
        }
    print(json.dumps(facts))
    return 0 if facts["same_result"] and facts["same_steps"] and kills else 1


if __name__ == "__main__":
    sys.exit(main())
