"""Which cache blocks are free. Blocks of a prompt are shared by all its samples and counted."""

import heapq


class BlockPool:
    """Hands out block numbers 1..blocks-1, lowest first, so that a lone sequence's follow one another; block 0 stands
    where a block table has no entry."""

    def __init__(self, blocks: int) -> None:
        self._free = list(range(1, blocks))
        self._users = [0] * blocks
        self.size = blocks - 1

    @property
    def free(self) -> int:
        return len(self._free)

    def take(self, count: int) -> list[int]:
        """`count` blocks, each with one user; the caller has made sure that so many are free."""
        taken = [heapq.heappop(self._free) for _ in range(count)]
        for block in taken:
            self._users[block] = 1
        return taken

    def share(self, blocks: list[int]) -> None:
        for block in blocks:
            self._users[block] += 1

    def release(self, blocks: list[int]) -> None:
        """Give up one use of each block; those without users are free again."""
        for block in blocks:
            self._users[block] -= 1
            if not self._users[block]:
                heapq.heappush(self._free, block)
