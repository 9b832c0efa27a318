"""A background lane for files: one thread, first in first out, so computing never waits for a disk.

The order of writes is a promise: what was handed over earlier is on disk earlier (see `Publish` in `contract.py`).
"""

import queue
import threading
from collections.abc import Callable


class DiskLane:
    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="disk-lane", daemon=True)
        self._thread.start()

    def put(self, task: Callable[[], None]) -> None:
        """Run `task` on the lane; it reports its own errors."""
        self._tasks.put(task)

    def close(self) -> None:
        """Returns when everything that was handed over is done."""
        self._tasks.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()
