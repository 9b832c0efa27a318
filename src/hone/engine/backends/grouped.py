"""Products of many groups of rows at once, each with a matrix of its own: the framework's grouped kernel where it
serves, else one product after another.

Legend: T rows, sorted by group, G groups, K inputs, N outputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_GROUPS = 1023
"""What the kernel takes in one call."""
ALIGNMENT = 16
"""Bytes, of what the kernel reads: so ranks are padded to `RANK_STEP` numbers."""
RANK_STEP = 8

_kernel: Any = getattr(F, "grouped_mm", None)


@dataclass(frozen=True)
class Groups:
    """Group g is the rows from the stop of the one before it to its own; groups may be empty."""

    stops_G: Tensor
    """int32, on the device"""
    stops: tuple[int, ...] | None
    """The same on the host; None while they change from one replay of a graph to the next."""

    def slices(self) -> list[slice]:
        assert self.stops is not None
        return [slice(*border) for border in pairwise((0, *self.stops))]


def make_groups(stops: Sequence[int], device: torch.device) -> Groups:
    return Groups(torch.tensor(stops, dtype=torch.int32).to(device), tuple(stops))


def grouped_product(x_TK: Tensor, w_GNK: Tensor, groups: Groups) -> Tensor:
    """Each group's x @ w.T, [T, N]. T may be no more than the last group's stop."""
    w_GKN = w_GNK.transpose(1, 2)
    if len(w_GKN) == 1:
        return x_TK @ w_GKN[0]
    if not _serves(x_TK, w_GKN):
        return torch.cat([x_TK[rows] @ w for rows, w in zip(groups.slices(), w_GKN, strict=True)])
    if len(w_GKN) <= MAX_GROUPS:
        out: Tensor = _kernel(x_TK, w_GKN, offs=groups.stops_G)
        return out
    return torch.cat([_kernel(x_TK[rows], w_GKN[part], offs=stops_G) for part, rows, stops_G in _runs(groups)])


def grouped_outer(x_TK: Tensor, y_TN: Tensor, groups: Groups) -> Tensor:
    """Each group's x.T @ y, [G, K, N], summed in float32; of a single group it is not rounded after that."""
    if len(groups.stops_G) == 1:
        if x_TK.is_cuda and x_TK.dtype != torch.float32:
            return torch.mm(x_TK.t(), y_TN, out_dtype=torch.float32)[None]
        return (x_TK.t().float() @ y_TN.float())[None]
    if not _serves(x_TK, y_TN):
        return torch.stack([x_TK[rows].t() @ y_TN[rows] for rows in groups.slices()])
    if len(groups.stops_G) <= MAX_GROUPS:
        out: Tensor = _kernel(x_TK.t(), y_TN, offs=groups.stops_G)
        return out
    return torch.cat([_kernel(x_TK[rows].t(), y_TN[rows], offs=stops_G) for _, rows, stops_G in _runs(groups)])


def _runs(groups: Groups) -> list[tuple[slice, slice, Tensor]]:
    """As many groups as one call takes: which, their rows, and where they stop among these."""
    assert groups.stops is not None
    runs, start = [], 0
    for first in range(0, len(groups.stops), MAX_GROUPS):
        part = slice(first, first + MAX_GROUPS)
        stop = groups.stops[part][-1]
        runs.append((part, slice(start, stop), groups.stops_G[part] - start))
        start = stop
    return runs


def _serves(left: Tensor, right: Tensor) -> bool:
    if _kernel is None or not len(left):
        return False
    if left.is_cuda and (left.dtype != torch.bfloat16 or not has_kernel(left.device)):
        return False
    return _aligned(left) and _aligned(right)


def has_kernel(device: torch.device) -> bool:
    """Whether the borders of groups may stay on this GPU: before Hopper the framework asks the host for them."""
    return _kernel is not None and _capability(device) >= (9, 0)


@cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


def _aligned(x: Tensor) -> bool:
    """Rows or columns lie together, and everything else a multiple of 16 bytes apart."""
    strides = [stride for stride in x.stride()[-2:] if stride != 1]
    others = (*x.stride()[:-2], *strides)
    size = x.element_size()
    return len(strides) <= 1 and all(n * size % ALIGNMENT == 0 for n in (x.storage_offset(), *others))
