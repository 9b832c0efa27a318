"""Time for what cannot be taken back: files that are removed, results that are forgotten, storage that is charged."""

import time


class SteadyClock:
    """The time of day, but never faster than time passes: a clock that is put forward deletes nothing early.

    A machine that sleeps falls behind by as much until the server starts again. That only keeps things longer.
    """

    def __init__(self) -> None:
        self._day, self._steady = time.time(), time.monotonic()

    def now(self) -> float:
        return min(time.time(), self._day + time.monotonic() - self._steady)
