"""Groups that are sampled ahead of the trainer, and how far ahead: the bookkeeping of asynchronous training.

A version is the number of training steps its weights have seen, however many optimizer steps each of them makes. A
group sampled at version v and trained in step s is s - v steps stale.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from hone.algorithms.types import TrajectoryGroup

Problem = tuple[int, int]
"""The batch of the dataset, and the place in it."""


@dataclass(frozen=True)
class Sampled:
    problem: Problem
    version: int
    seconds: float
    group: TrajectoryGroup


@dataclass
class Ahead:
    """Leaving its block ends the episodes that are still under way."""

    most_stale: int
    """Steps that a group may be stale when it is trained."""
    _under_way: dict[asyncio.Task[Sampled], int] = field(default_factory=dict)
    _finished: list[Sampled] = field(default_factory=list)

    async def __aenter__(self) -> Ahead:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def start(self, problem: Problem, version: int, sample: Callable[[], Awaitable[TrajectoryGroup]]) -> None:
        self._under_way[asyncio.create_task(_timed(problem, version, sample))] = version

    async def take(self, step: int, size: int) -> list[Sampled]:
        """What step `step` trains on: `size` groups, those of the oldest weights first.

        It waits for every group that would be too old for the next step, and takes them all, so nothing trained is ever
        more than `most_stale` steps stale; a step may then have more groups than `size`, and a later one fewer.
        """
        oldest = step - self.most_stale
        wanted = min(size, len(self._finished) + len(self._under_way))
        while len(self._finished) < wanted or any(version <= oldest for version in self._under_way.values()):
            done, _ = await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                del self._under_way[task]
                self._finished.append(task.result())
        self._finished.sort(key=lambda sampled: (sampled.version, sampled.problem))
        due = sum(sampled.version <= oldest for sampled in self._finished)
        taken = self._finished[: max(size, due)]
        del self._finished[: len(taken)]
        return taken


async def _timed(problem: Problem, version: int, sample: Callable[[], Awaitable[TrajectoryGroup]]) -> Sampled:
    began = time.perf_counter()
    group = await sample()
    return Sampled(problem, version, time.perf_counter() - began, group)


def staleness_metrics(step: int, taken: list[Sampled]) -> dict[str, float | str]:
    """Of the groups of a step, together and each by itself (`async/groups` as `batch:place`, in the order trained)."""
    if not taken:
        return {"async/groups": ""}
    stale = [step - sampled.version for sampled in taken]
    seconds = [sampled.seconds for sampled in taken]
    return {
        "async/staleness_max": max(stale),
        "async/staleness_min": min(stale),
        "async/staleness_mean": sum(stale) / len(stale),
        "async/groups": " ".join(f"{batch}:{place}" for batch, place in (sampled.problem for sampled in taken)),
        "async/staleness": " ".join(map(str, stale)),
        "time/sampling_time_max": max(seconds),
        "time/sampling_time_min": min(seconds),
        "time/sampling_time_mean": sum(seconds) / len(seconds),
    }


def trained_problems(rows: Iterable[dict[str, Any]]) -> set[Problem]:
    """The problems of steps that were logged, read back from `async/groups`."""
    found: set[Problem] = set()
    for row in rows:
        for name in str(row.get("async/groups", "")).split():
            batch, place = name.split(":")
            found.add((int(batch), int(place)))
    return found
