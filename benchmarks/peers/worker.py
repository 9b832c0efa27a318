"""Runs one system in its own environment: a line of work in, a line with its seconds out.

    python -m benchmarks.peers.worker <system> <model directory> <setting as JSON>

The first line out says that it is ready. Everything that the system prints goes to standard error.
"""

import importlib
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.peers.system import System
from benchmarks.peers.systems import SYSTEMS
from benchmarks.peers.work import Publish, Sample, Setting, Train, Work, loads

LOOKING_SECONDS = 0.2
LEAST_SECONDS = 0.25
"""A training step is done again until it took so long: its users wait for one in a row of steps."""


def main() -> None:
    name, model, setting = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    system: System = importlib.import_module(f"benchmarks.peers.systems.{SYSTEMS[name].module}").System(
        Path(model), Setting(**json.loads(setting))
    )
    try:
        print(json.dumps({"ready": True}), file=answers)
        for count, line in enumerate(sys.stdin):
            print(json.dumps(answer(system, line.strip(), count)), file=answers)
    finally:
        system.close()


def answer(system: System, line: str, count: int) -> dict[str, Any]:
    if line == "memory":
        return {"megabytes": memory(system.pid) / 1e6}
    try:
        return {"seconds": run(system, loads(line), count)}
    except Exception as error:
        return {"cannot": f"fails with {type(error).__name__}: {error}"[:300]}


def run(system: System, work: Work, count: int) -> float:
    """Seconds that it took, the mean where it was done several times.

    `count` tells pieces of work apart: prompts differ by it, and the first piece, which warms up or shows what a first
    one takes, is done once.
    """
    # some servers look for work ten times a second: without this, all rounds would meet them at the same moment
    time.sleep(random.uniform(0.0, LOOKING_SECONDS))
    taken: list[float] = []
    while not taken or (count and isinstance(work, Train) and sum(taken) < LEAST_SECONDS):
        taken.append(once(system, work, seed=count))
    return sum(taken) / len(taken)


def once(system: System, work: Work, seed: int) -> float:
    start, own = time.perf_counter(), None
    match work:
        case Train():
            own = system.train(work)
        case Sample():
            system.sample(work, seed=seed)
        case Publish():
            own = system.publish(work)
    return time.perf_counter() - start if own is None else own


def memory(pid: int) -> int:
    """Resident bytes of a process and all below it, shared pages counted once each time."""
    root = psutil.Process(pid)
    return sum(process.memory_info().rss for process in [root, *root.children(recursive=True)])


if __name__ == "__main__":
    main()
