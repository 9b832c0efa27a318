"""Running sequences that the C step feeds, see `hone.engine.native`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from hone.engine.native.decoder import NativeDecoder
from hone.engine.sampling.request import RunningSequence
from hone.engine.sampling.row_table import RowTable


class NativeRows:
    """As `RunningRows`, without padding."""

    @classmethod
    def of(cls, native: NativeDecoder, sequences: Sequence[RunningSequence]) -> NativeRows | None:
        """None if it cannot multiply with one of the adapters."""
        served = native.serves([s.request.version for s in sequences])
        return cls(native, RowTable(sequences)) if served else None

    def __init__(self, native: NativeDecoder, table: RowTable) -> None:
        self.sequences, self.settings, self._table = table.sequences, table.settings, table
        self._step = native.step(table.versions, table.inputs_3T, table.blocks_BN)

    def grow(self, sequence: RunningSequence) -> bool:
        return self._table.grow(sequence)

    def logits(self) -> Tensor:
        """Feed every sequence its newest token; what comes next, [B, V], until the next call."""
        self._table.fill()
        return self._step()
