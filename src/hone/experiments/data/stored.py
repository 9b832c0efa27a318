"""Rows that need not fit into memory."""

from __future__ import annotations

import pickle
import tempfile
import threading
import weakref
from array import array
from collections.abc import Sequence
from typing import Generic, TypeVar, overload

from hone.experiments.data.mixture import Indices

RowT = TypeVar("RowT")
IN_MEMORY = 64 * 2**20
"""Bytes of rows that stay in memory; more go to a temporary file."""


class RowStore(Generic[RowT]):
    """Takes rows one after another, and gives any of them back."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, prefix="hone-rows-")  # noqa: SIM115 - it stays
        self._starts = array("Q", [0])
        self._lock = threading.Lock()
        weakref.finalize(self, self._file.close)

    def append(self, row: RowT) -> None:
        data = pickle.dumps(row, protocol=pickle.HIGHEST_PROTOCOL)
        self._file.seek(self._starts[-1])
        self._file.write(data)
        self._starts.append(self._starts[-1] + len(data))

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: int) -> RowT:
        start, end = self._starts[index], self._starts[index + 1]
        with self._lock:  # several arms may read at once
            self._file.seek(start)
            data = self._file.read(end - start)
        row: RowT = pickle.loads(data)
        return row

    def in_order(self, order: Indices) -> Sequence[RowT]:
        """The rows of these indices, read when they are asked for."""
        return _Ordered(self, order)


class _Ordered(Sequence[RowT]):
    def __init__(self, store: RowStore[RowT], order: Indices) -> None:
        self._store = store
        self._order = order

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, index: int) -> RowT: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[RowT]: ...

    def __getitem__(self, index: int | slice) -> RowT | Sequence[RowT]:
        if isinstance(index, slice):
            return _Ordered(self._store, self._order[index])
        return self._store[int(self._order[index])]
