"""Which cache blocks are free. Blocks of a prompt are shared by all its samples and counted."""


class BlockPool:
    """Hands out block numbers 1..blocks-1; block 0 is scratch, for the padding rows of a batch."""

    def __init__(self, blocks: int) -> None:
        self._free = list(range(blocks - 1, 0, -1))
        self._users = [0] * blocks
        self.size = blocks - 1

    @property
    def free(self) -> int:
        return len(self._free)

    def take(self, count: int) -> list[int]:
        """`count` blocks, each with one user; the caller has made sure that so many are free."""
        taken = [self._free.pop() for _ in range(count)]
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
                self._free.append(block)
