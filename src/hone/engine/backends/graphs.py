"""One decoding step for any number of sequences, from few recorded ones.

A GPU replays a recorded step (a CUDA graph) without Python between its thousand kernels. A recording has fixed sizes
and reads fixed memory: so rows and lengths are rounded up to buckets, and every step's inputs are copied into the same
buffers. `Record` is what records: on a GPU a CUDA graph, elsewhere a stand-in that calls the function again.

Legend: B rows, N pages of the longest sequence that there may be.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hone.engine.attention import BLOCK

Record = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]
"""Takes a function of no arguments and gives one that does the same to the same memory."""

MIN_KEYS = 512
"""Lengths are rounded up to this times a power of two."""


class Bucket(NamedTuple):
    """What a recording is for."""

    rows: int
    keys: int
    """The longest sequence, the new token included."""
    adapters: bool
    """Whether any row has one."""


def bucket_of(rows: int, keys: int, adapters: bool, most_rows: int, most_keys: int) -> Bucket:
    """Powers of two up to 16 rows, then multiples of 16."""
    wide = 1 << (rows - 1).bit_length() if rows <= 16 else -(-rows // 16) * 16
    long = MIN_KEYS
    while long < keys:
        long *= 2
    return Bucket(min(wide, most_rows), min(long, most_keys), adapters)


@dataclass(frozen=True)
class StepInputs:
    """Of the rows of one step, on the host."""

    tokens: Sequence[int]
    positions: Sequence[int]
    pages: Sequence[Sequence[int]]
    """Blocks of the cache, in the order of the sequence."""
    slots: Sequence[int]
    """Of the adapters' bank, in ascending order."""


def pins(device: torch.device) -> bool:
    """Whether the host's memory is pinned, so that copies need not be waited for."""
    return device.type == "cuda"


class StepBuffers:
    """The inputs of recorded steps, on the device, with their mirror on the host."""

    def __init__(self, rows: int, keys: int, bank_slots: int, device: torch.device) -> None:
        pinned = pins(device)

        def host(*shape: int, dtype: torch.dtype = torch.int32) -> Tensor:
            return torch.zeros(shape, dtype=dtype, pin_memory=pinned)

        self._host = {
            "tokens": host(rows, dtype=torch.int64),
            "positions": host(rows, dtype=torch.int64),
            "places": host(rows),
            "cache_slots": host(rows, dtype=torch.int64),
            "stops": host(bank_slots),
            "scales": host(rows, 1, dtype=torch.float32),
        }
        self._tables = host(rows, -(-keys // BLOCK))
        device_of = {name: tensor.to(device) for name, tensor in self._host.items()}
        self.tokens_B, self.positions_B = device_of["tokens"], device_of["positions"]
        self.places_B, self.cache_slots_B = device_of["places"], device_of["cache_slots"]
        """Positions once more as int32, and where in the cache the new token goes."""
        self.stops_S, self.scale_B1 = device_of["stops"], device_of["scales"]
        """Of the adapters' bank: the row behind each slot's last, and what each row's adapter is multiplied by."""
        self.tables_BN = self._tables.to(device)
        self._device_of = device_of

    def lay_out(self, inputs: StepInputs, bucket: Bucket, scales: Sequence[float]) -> None:
        """What stays the same until a sequence joins or leaves. Further rows of the bucket go with the last slot, read
        and write the block that no sequence has, and mean nothing."""
        rows = len(inputs.pages)
        tables = self._tables.numpy()
        tables[: bucket.rows] = 0
        for row, pages in enumerate(inputs.pages):
            tables[row, : len(pages)] = pages
        self.tables_BN[: bucket.rows].copy_(self._tables[: bucket.rows], non_blocking=True)
        counts = np.bincount(np.array(inputs.slots, np.int64), minlength=len(self.stops_S))
        counts[inputs.slots[-1] if rows else -1] += bucket.rows - rows
        self._put("stops", np.cumsum(counts))
        self._put("scales", np.array([*scales, *[1.0] * (bucket.rows - rows)], np.float32)[:, None])

    def stops(self) -> list[int]:
        """Of the slots, as laid out."""
        stops: list[int] = self._host["stops"].tolist()
        return stops

    def fill(self, inputs: StepInputs, bucket: Bucket) -> None:
        """What changes with every token."""
        rest = [0] * (bucket.rows - len(inputs.tokens))
        at = zip(inputs.pages, inputs.positions, strict=True)
        places = [pages[position // BLOCK] * BLOCK + position % BLOCK for pages, position in at]
        positions = [*inputs.positions, *rest]
        self._put("tokens", np.array([*inputs.tokens, *rest]))
        self._put("positions", np.array(positions))
        self._put("places", np.array(positions))
        self._put("cache_slots", np.array([*places, *rest]))

    def _put(self, name: str, values: np.ndarray) -> None:
        host = self._host[name][: len(values)]
        host.numpy()[:] = values
        self._device_of[name][: len(values)].copy_(host, non_blocking=True)


class RecordedSteps:
    """Records a step the first time its bucket is needed, and replays it from then on."""

    def __init__(self, step: Callable[[Bucket], Tensor], record: Record) -> None:
        """`step` computes the logits [B, V] of a bucket from the buffers."""
        self._step, self._record = step, record
        self._recorded: dict[Bucket, Callable[[], Tensor]] = {}

    def __call__(self, bucket: Bucket) -> Tensor:
        run = self._recorded.get(bucket)
        if run is None:
            run = self._recorded[bucket] = self._record(lambda: self._step(bucket))
        return run()

    def forget(self) -> None:
        """The memory that recordings read has moved."""
        self._recorded.clear()


def call_again(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Records nothing."""
    return function


class CudaGraphs:
    """Records CUDA graphs, which share their memory: one is replayed at a time, and its result is read before the
    next."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        # kernels are compiled and workspaces made before, on a stream of its own as recording wants it
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                function()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # other threads copy to and from the device meanwhile
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            out = function()

        def replay() -> Tensor:
            graph.replay()
            return out

        return replay
