"""Causal attention over packed rows and over a paged cache.

Both run the same fused CPU kernel, padded so that the order of its additions does not depend on the neighbours:
positions to a multiple of `BLOCK` (masked ones add exact zeros), query rows to at least `MIN_ROWS`, cached lengths by
`stable_blocks`. So a sequence draws the same tokens in any batch, and in short contexts trainer and sampler agree to
the bit.

Legend: T tokens, H heads, K key-value heads, d head size, G query heads per key-value head, B sequences, L positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hone.engine.rowwise import MIN_ROWS

BLOCK = 16
"""Tokens per cache block; a multiple of the widest vector of floats."""


def stable_blocks(blocks: int) -> int:
    """The number of cache blocks to attend over so that at least `blocks` are covered.

    The kernel takes 512 positions at a time, and the matrix product inside sums up to 192 of them in one go, halves
    up to 384 and runs of 192 beyond. Where it would halve, the length is raised to 384, so that sums always break at
    the same place.
    """
    tile, single, double = 512 // BLOCK, 192 // BLOCK, 384 // BLOCK
    rest = blocks % tile
    return blocks - rest + double if single < rest < double else blocks


@dataclass(frozen=True)
class Run:
    """`count` sequences of equal length, one after another from row `start`."""

    start: int
    count: int
    length: int


def equal_length_runs(lengths: Sequence[int]) -> tuple[Run, ...]:
    """Group neighbouring sequences of equal length, so that one call serves them all without padding."""
    runs: list[Run] = []
    row = 0
    for length in lengths:
        if runs and runs[-1].length == length:
            runs[-1] = Run(runs[-1].start, runs[-1].count + 1, length)
        else:
            runs.append(Run(row, 1, length))
        row += length
    return tuple(runs)


class PackedAttention:
    """Every sequence of a pack attends to itself: training, and prompts without a cached prefix."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self._runs = equal_length_runs(lengths)

    def __call__(self, layer: int, q_THd: Tensor, k_TKd: Tensor, v_TKd: Tensor) -> Tensor:
        parts = []
        for run in self._runs:
            rows = slice(run.start, run.start + run.count * run.length)
            q, k, v = (_sequences(x[rows], run) for x in (q_THd, k_TKd, v_TKd))
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])
            parts.append(mixed[:, :, : run.length].transpose(1, 2).reshape(run.count * run.length, -1))
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _sequences(x_TXd: Tensor, run: Run) -> Tensor:
    """[sequences, X, positions padded to full blocks, d]"""
    x = x_TXd.view(run.count, run.length, *x_TXd.shape[1:]).transpose(1, 2)
    return F.pad(x, (0, 0, 0, -run.length % BLOCK)) if run.length % BLOCK else x


class KeyValueCache:
    """The keys and values of all layers, in blocks of `BLOCK` tokens. Untouched memory costs nothing."""

    def __init__(self, layers: int, blocks: int, kv_heads: int, head_dim: int) -> None:
        shape = (blocks, BLOCK, kv_heads, head_dim)
        # NumPy's zeros are mapped on first touch, torch's at once; zeros because masked garbage could be NaN
        self.keys = [torch.from_numpy(np.zeros(shape, np.float32)) for _ in range(layers)]
        self.values = [torch.from_numpy(np.zeros(shape, np.float32)) for _ in range(layers)]
        self._key_slots = [keys.flatten(0, 1) for keys in self.keys]
        self._value_slots = [values.flatten(0, 1) for values in self.values]

    def store(self, layer: int, slots_T: Tensor, k_TKd: Tensor, v_TKd: Tensor) -> None:
        """Write rows to slots, numbered block * BLOCK + offset."""
        self._key_slots[layer].index_copy_(0, slots_T, k_TKd)
        self._value_slots[layer].index_copy_(0, slots_T, v_TKd)

    def copy_block(self, source: int, target: int) -> None:
        for cache in (*self.keys, *self.values):
            cache[target] = cache[source]


class PrefillAttention(PackedAttention):
    """As `PackedAttention`, and keeps keys and values for the decoding that follows."""

    def __init__(self, lengths: Sequence[int], cache: KeyValueCache, slots_T: Tensor) -> None:
        super().__init__(lengths)
        self._cache, self._slots = cache, slots_T

    def __call__(self, layer: int, q_THd: Tensor, k_TKd: Tensor, v_TKd: Tensor) -> Tensor:
        self._cache.store(layer, self._slots, k_TKd, v_TKd)
        return super().__call__(layer, q_THd, k_TKd, v_TKd)


class DecodeAttention:
    """One new token of each sequence attends to everything cached before it."""

    def __init__(self, cache: KeyValueCache, blocks_BN: Tensor, slots_B: Tensor, positions_B: Tensor) -> None:
        self._cache, self._slots = cache, slots_B
        self._blocks, self._shape = blocks_BN.flatten(), (len(blocks_BN), blocks_BN.shape[1] * BLOCK)
        hidden_BL = torch.arange(self._shape[1]) > positions_B[:, None]
        self._mask = torch.zeros(self._shape).masked_fill_(hidden_BL, float("-inf"))[:, None, None]

    def __call__(self, layer: int, q_THd: Tensor, k_TKd: Tensor, v_TKd: Tensor) -> Tensor:
        q_BHd, k_BKd, v_BKd = q_THd, k_TKd, v_TKd  # one token per sequence
        self._cache.store(layer, self._slots, k_BKd, v_BKd)
        k, v = (
            cache[layer].index_select(0, self._blocks).view(*self._shape, *k_BKd.shape[1:]).transpose(1, 2)
            for cache in (self._cache.keys, self._cache.values)
        )
        # the G query heads of a key-value head stand where a longer query would: one call, no repeated keys
        q_BKGd = q_BHd.view(q_BHd.shape[0], k.shape[1], -1, q_BHd.shape[-1])
        group = q_BKGd.shape[2]
        if group < MIN_ROWS:
            q_BKGd = q_BKGd.repeat(1, 1, -(-MIN_ROWS // group), 1)
        mixed = F.scaled_dot_product_attention(q_BKGd, k, v, attn_mask=self._mask)
        return mixed[:, :, :group].reshape(q_BHd.shape[0], -1)
