"""Many running sequences on several cores: each thread feeds its share of the rows.

A row's bits do not depend on its neighbours, so neither on whose share it is in. The compiled step runs without
Python's lock; a step of few rows costs less than it would to share it out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import torch
from torch import Tensor

from hone.engine.backends.backend import Rows
from hone.engine.sampling.draw import DrawSettings, draw_settings
from hone.engine.sampling.request import RunningSequence

LEAST_ROWS = 8
"""Of a share."""

LayOut = Callable[[Sequence[RunningSequence]], Rows]


class SharedRows:
    """Rows in shares, side by side; otherwise what `RunningRows` is."""

    def __init__(self, sequences: Sequence[RunningSequence], lay_out: LayOut, shares: int, pool: ThreadPoolExecutor):
        by_adapter = sorted(sequences, key=lambda s: s.request.operation.version or "")
        edges = [len(by_adapter) * share // shares for share in range(shares + 1)]
        self._parts = [lay_out(by_adapter[start:stop]) for start, stop in pairwise(edges)]
        self._pool = pool
        self.sequences = [sequence for part in self._parts for sequence in part.sequences]
        self.settings: DrawSettings = draw_settings([s.request.operation.params for s in self.sequences])

    def grow(self, sequence: RunningSequence) -> bool:
        return next(part for part in self._parts if sequence in part.sequences).grow(sequence)

    def logits(self) -> Tensor:
        here, *others = self._parts
        computing = [self._pool.submit(_logits, part) for part in others]
        try:
            own = here.logits()
        finally:
            found = [future.exception() for future in computing]  # waits: they write to the cache
        for error in filter(None, found):
            raise error
        return torch.cat([own, *(future.result() for future in computing)])


class Sharing:
    """`lay_out`, for as many threads as there are rows for."""

    def __init__(self, lay_out: LayOut, threads: int) -> None:
        self._lay_out, self._threads = lay_out, threads
        self._pool = ThreadPoolExecutor(max(1, threads - 1), "decode", torch.set_num_threads, (1,))  # starts when used

    def __call__(self, sequences: Sequence[RunningSequence]) -> Rows:
        shares = min(self._threads, len(sequences) // LEAST_ROWS)
        return SharedRows(sequences, self._lay_out, shares, self._pool) if shares > 1 else self._lay_out(sequences)

    def close(self) -> None:
        self._pool.shutdown()


@torch.inference_mode()
def _logits(rows: Rows) -> Tensor:
    return rows.logits()
