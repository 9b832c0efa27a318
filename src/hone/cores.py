"""The cores that Hone may compute on, and how the engine uses them: the same answer for whoever asks.

The standard library only, so that the command line can ask without loading a model.
"""

import os
from dataclasses import dataclass
from pathlib import Path

_QUOTA = "/sys/fs/cgroup/cpu.max"
_OLD_QUOTA = ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us")
"""Of a container, in both versions of control groups: microseconds of processor time, in a period of so many."""


def available_cores() -> int:
    """Those of the machine that this process may run on, and not more than its container has the time of."""
    may = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(may, *_quotas(), may))


def _quotas() -> list[int]:
    """In whole cores: a thread more would only wait for the next period."""
    said = [file.read_text().split() for file in [Path(_QUOTA)] if file.is_file()]
    if all(Path(file).is_file() for file in _OLD_QUOTA):
        said.append([Path(file).read_text().strip() for file in _OLD_QUOTA])
    return [int(quota) // int(period) for quota, period in said if quota.isdigit()]  # "max" and -1 are no limit


@dataclass(frozen=True)
class Threads:
    """What the engine computes with on a CPU."""

    math: int
    """Of the math library, for what is not divided."""
    workers: int
    """That compute side by side, with a library of one thread each."""


def engine_threads(math: int | None = None, workers: int | None = None) -> Threads:
    """By HONE_THREADS and HONE_TRAINING_THREADS, where they are set: a worker on every core, and a math library of one
    thread, because with more results depend on what else is computed (docs/design/decisions/0002)."""
    math = math or 1
    return Threads(math, workers or max(1, available_cores() // math))
