"""Short prompts that the C step takes, see `hone.engine.native`.

Legend: T rows of the chunks, N blocks.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hone.engine.native.decoder import NativeDecoder
from hone.engine.sampling.prefill import Chunk, ChunkRows
from hone.engine.wide import helps

MOST_ROWS = 256
"""Of a pass: beyond, the framework's larger products are faster than its dispatch is slow."""
MOST_POSITIONS = 512
"""Of a prompt: the C reads its keys anew for every token."""


def run_native_chunks(native: NativeDecoder, chunks: Sequence[Chunk]) -> list[tuple[Chunk, Tensor]] | None:
    """As `run_chunks`; None if they are too long for it, or it cannot multiply with one of the adapters."""
    count = sum(c.length for c in chunks)
    if count > MOST_ROWS or max(c.stop for c in chunks) > MOST_POSITIONS:
        return None
    if helps(count, *native.largest):  # several cores, which the C does not ask for, are faster
        return None
    rows = ChunkRows.of(chunks)
    if not native.serves(rows.versions):
        return None
    blocks_CN = np.zeros((len(rows.chunks), max(len(c.blocks) for c in chunks)), np.int64)
    for own_N, c in zip(blocks_CN, rows.chunks, strict=True):
        own_N[: len(c.blocks)] = c.blocks
    blocks_TN = torch.from_numpy(blocks_CN.repeat(rows.lengths, axis=0))
    versions = [version for version, length in zip(rows.versions, rows.lengths, strict=True) for _ in range(length)]
    return rows.split(native.hidden(versions, rows.inputs_3T, blocks_TN))
