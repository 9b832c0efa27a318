"""Finds the cached blocks of a prompt that begins as an earlier sequence did, under the same weights.

A full block is known by its tokens and everything before them: by the block in front of it, and so on to the weights.
What a block holds does not depend on who computed it (see `attention.py`), so reuse changes no sample.
"""

from itertools import count

import numpy as np

from hone.engine.attention import BLOCK
from hone.engine.sampling.blocks import BlockPool

Parent = str | int
"""The weights (the name of a version; empty for the base model), or the serial number of the entry in front."""


class PrefixIndex:
    def __init__(self, blocks: int) -> None:
        self.pool = BlockPool(blocks, self._forget)
        self._entries: dict[tuple[Parent, bytes], tuple[int, int]] = {}
        """Serial number and block, by parent and tokens."""
        self._keys: dict[int, tuple[Parent, bytes]] = {}
        self._serials = count()

    def find(self, weights: str, tokens: np.ndarray) -> list[int]:
        """The blocks that hold the beginning of `tokens` [T], each with one user more: as many full ones as are cached
        in a row."""
        blocks: list[int] = []
        parent: Parent = weights
        for piece in _pieces(tokens):
            entry = self._entries.get((parent, piece))
            if entry is None:
                break
            parent, block = entry
            blocks.append(block)
        self.pool.share(blocks)
        return blocks

    def keep(self, weights: str, tokens: np.ndarray, blocks: list[int]) -> None:
        """Remember `blocks`, which are in use and hold `tokens` [T]; a last one that is not full is left out."""
        parent: Parent = weights
        for piece, block in zip(_pieces(tokens), blocks, strict=False):
            entry = self._entries.get((parent, piece))
            if entry is None:
                entry = self._entries[parent, piece] = next(self._serials), block
                self._keys[block] = parent, piece
                self.pool.keep(block)
            parent = entry[0]

    def _forget(self, block: int) -> None:
        del self._entries[self._keys.pop(block)]


def _pieces(tokens: np.ndarray) -> list[bytes]:
    full = np.ascontiguousarray(tokens[: len(tokens) // BLOCK * BLOCK], np.int32)
    return [full[i : i + BLOCK].tobytes() for i in range(0, len(full), BLOCK)]
