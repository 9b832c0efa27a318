"""Threads that compute at the same time, each with a math library of one thread.

A product that the library itself spreads over threads gets other last bits when its size changes; see decision 0002.
What is dealt out to these threads instead has the bits that one thread gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import TypeVar

import torch

T = TypeVar("T")


class Workers:
    """`count` threads; none if that is 1, since then the caller's own is enough."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count, "pass", partial(torch.set_num_threads, 1)) if count > 1 else None
        if self._pool is not None:
            # All of them now: one that cannot be started in a pass, for want of memory, would leave others computing.
            here = Barrier(count, timeout=60)
            self.run([partial(here.wait)] * count)

    def run(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """Run the tasks while the caller waits. If any fails, so does the whole, when all have ended: nobody may
        compute any more when a failure is told."""
        if self._pool is None:
            return [task() for task in tasks]
        return _results([self._pool.submit(task) for task in tasks])

    def help(self, tasks: Sequence[Callable[[], None]]) -> None:
        """The same, and the caller takes the first task itself, which is quicker for short ones."""
        own, *others = tasks
        if self._pool is None:
            for task in tasks:
                task()
            return
        computing = [self._pool.submit(task) for task in others]
        try:
            own()
        finally:
            for future in computing:
                future.exception()
        _results(computing)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()


def _results(computing: Sequence[Future[T]]) -> list[T]:
    for future in computing:
        future.exception()  # waits
    return [future.result() for future in computing]
