"""Gives freed memory back to the operating system.

The allocator keeps what is freed for the next step, which is what makes steps fast (see `remote.py`). What adapters
leave behind when they go lies between others that stay, and would add up.
"""

import ctypes
from collections.abc import Callable

GIVE_BACK_BYTES = 32 << 20
"""Freed since the last time. Lower: less memory held for nothing, more time spent on finding it."""


class Heap:
    def __init__(self) -> None:
        self._freed = 0
        self._trim = _find_trim()

    def freed(self, size: int) -> None:
        """So many bytes were let go that no next step will want."""
        self._freed += size
        if self._freed >= GIVE_BACK_BYTES and self._trim is not None:
            self._freed = 0
            self._trim(0)


def _find_trim() -> Callable[[int], int] | None:
    """glibc's function; others give back by themselves, or have none."""
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    return trim
