"""Running sequences that the C step feeds, see `hone.engine.native`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from hone.engine.lora.batch import LoraSpan
from hone.engine.native.decoder import NativeDecoder
from hone.engine.sampling.request import RunningSequence
from hone.engine.sampling.row_table import RowTable
from hone.engine.sampling.version import adapter_spans


class NativeRows:
    """As `RunningRows`, without padding."""

    @classmethod
    def of(cls, native: NativeDecoder, sequences: Sequence[RunningSequence]) -> NativeRows | None:
        """None if it cannot multiply with one of the adapters."""
        table = RowTable(sequences)
        spans = adapter_spans(table.versions, list(range(table.rows + 1)))
        return cls(native, table, spans) if native.serves(spans) else None

    def __init__(self, native: NativeDecoder, table: RowTable, spans: Sequence[LoraSpan]) -> None:
        self.sequences, self.settings, self._table = table.sequences, table.settings, table
        self._step = native.step(spans, table.inputs_3T, table.blocks_BN)

    def grow(self, sequence: RunningSequence) -> bool:
        return self._table.grow(sequence)

    def logits(self) -> Tensor:
        """Feed every sequence its newest token; what comes next, [B, V], until the next call."""
        self._table.fill()
        return self._step()
