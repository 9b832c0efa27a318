"""Measures chapters: every system does the same piece of work in turn, round after round, so that the machine's good
and bad phases meet all of them; what counts is the median of the rounds' ratios."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from benchmarks.peers.results import Result
from benchmarks.peers.rows import Chapter, Row
from benchmarks.peers.systems import SYSTEMS
from benchmarks.peers.work import Publish, Train, Work

LEAST_ROUNDS = 3
MOST_STARTS = 3
"""A start varies less than a step."""
SLOW_SECONDS = 20.0
"""Whoever takes longer for one piece of work, or to start, is in the first round only: it would be most of the time."""
START = "Start and memory"
REST_SECONDS = 12.0
"""Before memory is measured: some give back then what they do not use."""
FIRST_STEP = Train(1, 8)


class Runner(Protocol):
    start_seconds: float

    def wake(self) -> None: ...
    def run(self, work: Work) -> dict[str, Any]: ...
    def memory(self) -> dict[str, Any]: ...
    def close(self) -> None: ...


def measure_chapter(
    chapter: Chapter, systems: Mapping[str, Runner], missing: Mapping[str, str], rounds: int, seconds: float
) -> list[Result]:
    """A row takes `rounds` rounds, fewer but at least three if they would take longer than `seconds`. `missing` are the
    systems that did not start, with the reason. The last row is the memory that the chapter left the systems with, when
    they have come to rest."""
    results = [measure_row(chapter, row, systems, rounds, seconds) for row in chapter.rows]
    memory = Result(chapter.title, "resident memory afterwards", "MB")
    for system in systems.values():
        system.wake()
    time.sleep(REST_SECONDS)
    for name, system in systems.items():
        _take(memory, name, system.memory(), "megabytes")
    for result in (*results, memory):
        result.missing |= missing
    return [*results, memory]


def measure_row(chapter: Chapter, row: Row, systems: Mapping[str, Runner], rounds: int, seconds: float) -> Result:
    unit, tokens = ("ms", None) if isinstance(row.work, Publish) else ("tokens/s", row.work.tokens)
    result = Result(chapter.title, row.name, unit, tokens)
    able = {name: system for name, system in systems.items() if _warmed_up(name, system, row.work, result)}
    start, done, slow = time.monotonic(), 0, set[str]()
    while done < rounds and (done < LEAST_ROUNDS or time.monotonic() - start < seconds):
        answers = {name: system.run(row.work) for name, system in able.items() if name not in slow}
        for name, answer in answers.items():
            if not _take(result, name, answer, "seconds"):
                del able[name]
            elif answer["seconds"] > SLOW_SECONDS:
                slow.add(name)
        done += 1
    return result


def _take(result: Result, name: str, answer: Mapping[str, Any], key: str) -> bool:
    """Whether there was something to take; never again after one time that there was not."""
    if "cannot" in answer:
        result.drop(name, answer["cannot"])
    if name in result.missing:
        return False
    result.values.setdefault(name, []).append(answer[key])
    return True


def _warmed_up(name: str, system: Runner, work: Work, result: Result) -> bool:
    if reason := lacks(name, work):
        result.drop(name, reason)
        return False
    answer = system.run(work)  # compiles, and fills caches
    if "cannot" in answer:
        result.drop(name, answer["cannot"])
    return "cannot" not in answer


def lacks(name: str, work: Work) -> str | None:
    """Why a system can do no work of this kind."""
    about = SYSTEMS[name]
    if isinstance(work, Train) and work.tenants > 1 and about.one_adapter:
        return f"{about.title} trains one adapter"
    return about.cannot.get(type(work).__name__)


def measure_starts(start: Mapping[str, Callable[[], Runner]], rounds: int) -> list[Result]:
    """Systems started from nothing, one after another: nothing compiled before is found again. At most `MOST_STARTS`
    rounds, and one for those that take long."""
    ready = Result(START, "start, until an adapter can be trained", "s")
    stepped = Result(START, "the same, until the first step of 1 x 8 tokens is done", "s")
    memory = Result(START, "resident memory then", "MB")
    able = dict(start)
    for _ in range(min(rounds, MOST_STARTS)):
        for name, launch in list(able.items()):
            try:
                system = launch()
            except Exception as error:
                for result in (ready, stepped, memory):
                    result.drop(name, str(error))
                del able[name]
                continue
            ready.values.setdefault(name, []).append(system.start_seconds)
            if reason := lacks(name, FIRST_STEP):
                stepped.drop(name, reason)
            else:
                began = time.perf_counter()
                answer = system.run(FIRST_STEP)
                seconds = system.start_seconds + time.perf_counter() - began
                _take(stepped, name, answer | {"seconds": seconds}, "seconds")
            _take(memory, name, system.memory(), "megabytes")
            system.close()
            if system.start_seconds > SLOW_SECONDS:
                del able[name]
    return [ready, stepped, memory]
