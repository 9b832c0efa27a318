"""Which cache blocks are in use, which are free, and which keep what somebody may ask for again."""

import heapq
from collections import OrderedDict
from collections.abc import Callable


class BlockPool:
    """Hands out block numbers 1..blocks-1, lowest first, so that a lone sequence's follow one another; block 0 stands
    where a block table has no entry.

    Users of a block are counted. A block that is kept stays as it is when the last of them leaves, until there is no
    other free one; then `forget` is told, those that were left longest ago first.
    """

    def __init__(self, blocks: int, forget: Callable[[int], None]) -> None:
        self._free = list(range(1, blocks))
        self._users = [0] * blocks
        self._kept: set[int] = set()
        self._idle: OrderedDict[int, None] = OrderedDict()
        """Kept and without users, the longest idle first."""
        self._forget = forget
        self.size = blocks - 1

    @property
    def free(self) -> int:
        return len(self._free) + len(self._idle)

    def take(self, count: int) -> list[int]:
        """`count` blocks, each with one user; the caller has made sure that so many are free."""
        while len(self._free) < count:
            block, _ = self._idle.popitem(last=False)
            self._kept.remove(block)
            self._forget(block)
            heapq.heappush(self._free, block)
        taken = [heapq.heappop(self._free) for _ in range(count)]
        for block in taken:
            self._users[block] = 1
        return taken

    def share(self, blocks: list[int]) -> None:
        """One user more for each block, which may be an idle one."""
        for block in blocks:
            self._idle.pop(block, None)
            self._users[block] += 1

    def keep(self, block: int) -> None:
        """Keep a block that has users beyond the last of them."""
        self._kept.add(block)

    def release(self, blocks: list[int]) -> None:
        """Give up one use of each block. The last ones are forgotten first: those before them are of use without."""
        for block in reversed(blocks):
            self._users[block] -= 1
            if self._users[block]:
                continue
            if block in self._kept:
                self._idle[block] = None
            else:
                heapq.heappush(self._free, block)
