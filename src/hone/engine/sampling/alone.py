"""A sequence that runs alone, as on a quiet server: its keys and values are read where they lie.

Legend: N blocks, L positions of them, K key-value heads, d head size.
"""

import torch

from hone.engine.attention import BLOCK, KeyValueCache
from hone.engine.sampling.compiled import kept
from hone.engine.sampling.step import StepAlone


class AlonePages:
    """Its blocks, as long as they follow one another; there may be up to `most` of them."""

    @classmethod
    def of(cls, cache: KeyValueCache, blocks: list[int], most: int) -> "AlonePages | None":
        """None: they do not, or the cache ends before there is room for `most`."""
        first = blocks[0]
        in_a_row = blocks == list(range(first, first + len(blocks)))
        return cls(cache, first, most) if in_a_row and first + most <= len(cache.entries[0]) else None

    def __init__(self, cache: KeyValueCache, first: int, most: int) -> None:
        self._cache, self._first = cache, first
        # 0 where a position may look, -inf elsewhere, is one line that moves on by one with each token
        self._middle = most * BLOCK
        self._line = torch.zeros(2 * self._middle)
        self._line[self._middle :] = -torch.inf
        self._blocks = 0
        self._pages: list[torch.Tensor] = []

    def continues_with(self, blocks: list[int]) -> bool:
        """Whether the newest block follows the others."""
        return blocks[-1] == self._first + len(blocks) - 1

    def at(self, position: int, blocks: int) -> StepAlone:
        """For the token at `position`, which looks at so many blocks."""
        if blocks != self._blocks:
            found = [entries[self._first : self._first + blocks] for entries in self._cache.entries]
            self._blocks, self._pages = blocks, kept([pages.flatten(0, 1)[None].transpose(1, 2) for pages in found])
        length = blocks * BLOCK
        mask = self._line.as_strided((1, 1, 1, length), (length, length, length, 1), self._middle - 1 - position)
        return StepAlone(self._pages, mask)
