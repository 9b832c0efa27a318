"""What running sequences feed to a decoding step: one row for each, neighbours on one adapter side by side."""

from collections.abc import Sequence

import numpy as np
import torch

from hone.engine.attention import BLOCK, stable_blocks
from hone.engine.sampling.draw import DrawSettings, draw_settings
from hone.engine.sampling.request import RunningSequence

SPARE_BLOCKS = 16
"""Room for so many more per sequence, until the rows are laid out anew."""


class RowTable:
    """Numbers that a step reads where they lie; rows beyond the sequences are padding."""

    def __init__(self, sequences: Sequence[RunningSequence], min_rows: int = 1) -> None:
        self.sequences = sorted(sequences, key=lambda s: s.request.operation.version or "")
        self.settings: DrawSettings = draw_settings([s.request.operation.params for s in self.sequences])
        self.versions = [s.request.version for s in self.sequences]
        self.rows = max(min_rows, len(sequences))
        most = max(len(s.blocks) for s in sequences)
        self._table_BN = np.zeros((len(sequences), stable_blocks(most + SPARE_BLOCKS)), np.int64)
        for row, sequence in enumerate(self.sequences):
            self._table_BN[row, : len(sequence.blocks)] = sequence.blocks
        self._inputs = np.zeros((3, self.rows), np.int64)
        self.blocks_BN = torch.from_numpy(self._table_BN)
        self.inputs_3T = torch.from_numpy(self._inputs)
        """Tokens, positions, slots."""

    def grow(self, sequence: RunningSequence) -> bool:
        """Take notice of a sequence's newest block; false if there is no room for it here."""
        last = len(sequence.blocks) - 1
        if stable_blocks(last + 1) > self._table_BN.shape[1]:
            return False
        self._table_BN[self.sequences.index(sequence), last] = sequence.blocks[last]
        return True

    def fill(self) -> list[int]:
        """Every sequence's newest token, and its slot; the positions."""
        positions = [s.position for s in self.sequences]
        slots = [s.blocks[p // BLOCK] * BLOCK + p % BLOCK for s, p in zip(self.sequences, positions, strict=True)]
        self._inputs[:, : len(positions)] = [s.tokens[-1] for s in self.sequences], positions, slots
        return positions
