"""Causal attention over packed rows and over a paged cache.

Both run the same fused CPU kernel, padded so that the order of its additions depends on a token's position alone:
positions to a multiple of `BLOCK` (masked ones add exact zeros), query rows to at least `MIN_ROWS`, the number of keys
by `stable_blocks`. So a sequence draws the same tokens in any batch, and trainer and sampler agree to the bit.

Legend: T tokens, H heads, K key-value heads, d head size, G query heads per key-value head, B sequences, L positions.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hone.engine import wide
from hone.engine.attention_kinds import AttentionKind, attend_to
from hone.engine.rowwise import MIN_ROWS

_kernel: Callable[..., tuple[Tensor, Tensor]] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
_kernel_backward: Callable[..., tuple[Tensor, Tensor, Tensor]] = (
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default
)
_KERNEL_SHARES_KEYS = torch.__version__ >= "2.13"
"""Whether the kernel takes fewer key than query heads; if not they are repeated."""

BLOCK = 16
"""Tokens per cache block; a multiple of the widest vector of floats."""

TILE = 512
"""Keys that the kernel takes at a time; the matrix product inside sums up to `SINGLE` of them in one go, halves up to
`DOUBLE`, and runs of `SINGLE` beyond."""
SINGLE, DOUBLE = 192, 384


def stable_blocks(blocks: int) -> int:
    """The number of cache blocks to attend over so that at least `blocks` are covered.

    Where the last tile's sum would be halved, the length is raised, so that sums always break at the same place.
    """
    rest = blocks % (TILE // BLOCK)
    return blocks - rest + DOUBLE // BLOCK if SINGLE // BLOCK < rest < DOUBLE // BLOCK else blocks


@dataclass(frozen=True)
class Run:
    """`count` sequences of equal length, one after another from row `start`."""

    start: int
    count: int
    length: int

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + self.count * self.length)


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


class Attend(Protocol):
    def __call__(
        self, layer: int, q_THd: Tensor, k_TKd: Tensor, v_TKd: Tensor, kind: AttentionKind | None = None
    ) -> Tensor:
        """Causal attention of one layer, [T, H*d]; may also store keys and values. `kind` if it is no plain softmax of
        q k^T / sqrt(d)."""
        ...


class PackedAttention:
    """Every sequence of a pack attends to itself: training, and whole prompts."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = list(lengths)
        self._runs = equal_length_runs(lengths)

    def __call__(
        self, layer: int, q_THd: Tensor, k_TKd: Tensor, v_TKd: Tensor, kind: AttentionKind | None = None
    ) -> Tensor:
        if kind is not None:
            each = zip(*(x.split(self.lengths) for x in (q_THd, k_TKd, v_TKd)), strict=True)
            return torch.cat([attend_to(q, k, v, kind) for q, k, v in each])
        parts = []
        for run in self._runs:
            mixed = causal_attention(*self._inputs((q_THd, k_TKd, v_TKd), run))
            parts.append(_rows_of(mixed, run).flatten(1))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def forward(self, *qkv_TXd: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The same without autograd: the attention, and what `backward` wants to have back."""
        mixed, saved = list[Tensor](), list[Tensor]()
        for run in self._runs:
            out, logsumexp = wide.by_heads(_forward, *self._inputs(qkv_TXd, run))
            saved += [out, logsumexp]
            mixed.append(_rows_of(out, run).flatten(1))
        return mixed[0] if len(mixed) == 1 else torch.cat(mixed), saved

    def backward(self, dmixed_THd: Tensor, qkv_TXd: tuple[Tensor, ...], saved: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """d loss / d queries, keys and values, each [T, X, d]."""
        parts = []
        for run, out, logsumexp in zip(self._runs, saved[::2], saved[1::2], strict=True):
            # without padding: this kernel need not sum as decoding does
            inputs, dout = self._inputs(qkv_TXd, run, 1), _sequences(dmixed_THd[run.rows], run, 1)
            given = (x[:, :, : run.length] for x in (out, logsumexp))
            grads = wide.by_heads(_backward, *inputs, *given, dout)
            if not _KERNEL_SHARES_KEYS:
                grads = grads[0], *(_summed(x, qkv_TXd[1].shape[1]) for x in grads[1:])
            parts.append([_rows_of(x, run) for x in grads])
        return tuple(x[0] if len(x) == 1 else torch.cat(x) for x in zip(*parts, strict=True))

    def _inputs(self, qkv_TXd: tuple[Tensor, ...], run: Run, block: int = BLOCK) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (_sequences(x[run.rows], run, block) for x in qkv_TXd)
        if not _KERNEL_SHARES_KEYS:
            k, v = (_repeated(x, q.shape[1]) for x in (k, v))
        return q, k, v


def _rows_of(x_BXLd: Tensor, run: Run) -> Tensor:
    """A run's rows without padding, [rows, X, d]"""
    rows: Tensor = x_BXLd[:, :, : run.length].transpose(1, 2).flatten(0, 1)
    return rows


def _summed(x_BHLd: Tensor, kv_heads: int) -> Tensor:
    """Over the query heads of each key-value head, [B, K, L, d]"""
    summed: Tensor = x_BHLd.unflatten(1, (kv_heads, -1)).sum(2)
    return summed


def _repeated(x_BKLd: Tensor, heads: int) -> Tensor:
    """Every key-value head once for each of its query heads, [B, H, L, d]."""
    shares = heads // x_BKLd.shape[1]
    return x_BKLd if shares == 1 else x_BKLd[:, :, None].expand(-1, -1, shares, -1, -1).flatten(1, 2)


def _sequences(x_TXd: Tensor, run: Run, block: int = BLOCK) -> Tensor:
    """[sequences, X, positions padded to full blocks, d]"""
    x = x_TXd.view(run.count, run.length, *x_TXd.shape[1:]).transpose(1, 2)
    return F.pad(x, (0, 0, 0, -run.length % block)) if run.length % block else x


def causal_attention(q_BHLd: Tensor, k_BKLd: Tensor, v_BKLd: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v over each position and those before it, [B, H, L, d]; L is a multiple of `BLOCK`."""
    out: Tensor = _CausalAttention.apply(q_BHLd, k_BKLd, v_BKLd)  # type: ignore[no-untyped-call]
    return out


class _CausalAttention(torch.autograd.Function):
    """The framework's kernel cuts queries and keys by the length of the sequence. Here the forward pass cuts them by
    position, as decoding does; the backward pass may be the framework's."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out, logsumexp = wide.by_heads(_forward, q, k, v)
        ctx.save_for_backward(q, k, v, out, logsumexp)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, out, logsumexp = ctx.saved_tensors
        dq, dk, dv = wide.by_heads(_backward, q, k, v, out, logsumexp, grads[0])
        return dq, dk, dv


def _forward(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Output and log-sum-exp."""
    length = q.shape[2]
    if length <= SINGLE:
        return _kernel(q, k, v, 0.0, True)
    parts = [_rows(q[:, :, start:stop], k, v, start) for start, stop in _cuts(0, length)]
    out, logsumexp = (torch.cat(x, dim=2) for x in zip(*parts, strict=True))
    return out, logsumexp


def _backward(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, logsumexp: Tensor, dout: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return _kernel_backward(dout, q, k, v, out, logsumexp, 0.0, True)


def _cuts(first: int, length: int) -> Iterator[tuple[int, int]]:
    """The positions `first:length`, cut where the last tile begins to be summed otherwise."""
    for tile in range(first - first % TILE, length, TILE):
        for start, stop in ((tile, tile + SINGLE), (tile + SINGLE, tile + DOUBLE), (tile + DOUBLE, tile + TILE)):
            if start < length and stop > first:
                yield max(start, first), min(stop, length)


def _rows(q_BHRd: Tensor, k_BKLd: Tensor, v_BKLd: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """Output and log-sum-exp of the R positions from `start`."""
    stop = start + q_BHRd.shape[2]
    if start == 0:
        return _kernel(q_BHRd, k_BKLd[:, :, :stop], v_BKLd[:, :, :stop], 0.0, True)
    keys = stable_blocks(stop // BLOCK) * BLOCK
    k, v = (_padded(x[:, :, :keys], keys) for x in (k_BKLd, v_BKLd))
    out, logsumexp = _kernel(q_BHRd.flip(2), k, v, 0.0, False, attn_mask=_backward_mask(start, stop, keys))
    return out.flip(2), logsumexp.flip(2)


def _padded(x_BKLd: Tensor, keys: int) -> Tensor:
    missing = keys - x_BKLd.shape[2]
    return F.pad(x_BKLd, (0, 0, 0, missing)) if missing else x_BKLd  # padding by nothing copies


def _backward_mask(start: int, stop: int, keys: int) -> Tensor:
    """0 where a position may look, -inf elsewhere, [stop - start, keys], for the positions in backward order: then each
    row is the one before it moved by one, and the mask is a view of a single line."""
    line = torch.full((keys + stop - start - 1,), float("-inf"))
    line[:stop] = 0.0
    return line.as_strided((stop - start, keys), (1, 1))


def _zeros(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Zeros because masked garbage could be NaN."""
    if device.type != "cpu":
        return torch.zeros(shape, device=device, dtype=dtype)
    # NumPy's zeros are mapped on first touch, torch's at once
    numbers = np.zeros(shape, {torch.float32: np.int32, torch.bfloat16: np.int16}[dtype])
    return torch.from_numpy(numbers).view(dtype)


class KeyValueCache:
    """The keys and values of all layers, in blocks of `BLOCK` tokens. Untouched memory of a CPU costs nothing."""

    @staticmethod
    def block_bytes(layers: int, kv_heads: int, head_dim: int, dtype: torch.dtype = torch.float32) -> int:
        """Of one block in all layers."""
        return dtype.itemsize * layers * BLOCK * 2 * kv_heads * head_dim

    def __init__(
        self,
        layers: int,
        blocks: int,
        kv_heads: int,
        head_dim: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        shape = (blocks, BLOCK, 2 * kv_heads, head_dim)
        self.entries = [_zeros(shape, torch.device(device), dtype) for _ in range(layers)]
        """Per layer [blocks, BLOCK, 2*K, d]: the keys, then the values."""

    def store(self, layer: int, slots_T: Tensor, k_TKd: Tensor, v_TKd: Tensor) -> None:
        """Write rows to slots, numbered block * BLOCK + offset."""
        self.entries[layer].flatten(0, 1).index_copy_(0, slots_T, torch.cat([k_TKd, v_TKd], dim=1))

    def copy_block(self, source: int, target: int) -> None:
        for entries in self.entries:
            entries[target] = entries[source]


@dataclass(frozen=True)
class Continuation:
    """New rows `start:start + length` of a batch, of a sequence whose first `cached` positions (full blocks) are in the
    cache."""

    start: int
    length: int
    cached: int
    blocks_N: Tensor
    """All of the sequence, those of the new positions included."""


class PrefillAttention:
    """Prompts: rows of whole ones come first, then those that continue what is cached. Keeps keys and values for the
    decoding that follows."""

    def __init__(
        self, lengths: Sequence[int], cache: KeyValueCache, slots_T: Tensor, continued: Sequence[Continuation] = ()
    ) -> None:
        self._whole, self._rows = PackedAttention(lengths), sum(lengths)
        self._cache, self._slots, self._continued = cache, slots_T, continued

    def __call__(
        self, layer: int, q_THd: Tensor, k_TKd: Tensor, v_TKd: Tensor, kind: AttentionKind | None = None
    ) -> Tensor:
        self._cache.store(layer, self._slots, k_TKd, v_TKd)
        parts = [self._continue(layer, q_THd, one, kind) for one in self._continued]
        if self._rows:
            q, k, v = (x[: self._rows] for x in (q_THd, k_TKd, v_TKd))
            parts.insert(0, self._whole(layer, q, k, v, kind))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _continue(self, layer: int, q_THd: Tensor, one: Continuation, kind: AttentionKind | None) -> Tensor:
        entries = self._cache.entries[layer].index_select(0, one.blocks_N)
        if kind is not None:
            k, v = entries.flatten(0, 1)[: one.cached + one.length].chunk(2, dim=1)
            return attend_to(q_THd[one.start : one.start + one.length], k, v, kind)
        k, v = entries.flatten(0, 1)[None].transpose(1, 2).chunk(2, dim=1)
        q = _sequences(q_THd[one.start : one.start + one.length], Run(one.start, 1, one.length))
        if not _KERNEL_SHARES_KEYS:
            k, v = (_repeated(x, q.shape[1]) for x in (k, v))
        cuts = _cuts(one.cached, one.cached + q.shape[2])
        parts = [_rows(q[:, :, start - one.cached : stop - one.cached], k, v, start)[0] for start, stop in cuts]
        return torch.cat(parts, dim=2)[0, :, : one.length].transpose(0, 1).flatten(1)


class DecodeAttention:
    """One new token of each of the first B rows attends to everything cached before it; further rows are padding."""

    def __init__(self, cache: KeyValueCache, blocks_BN: Tensor, slots_B: Tensor, positions_B: Tensor) -> None:
        self._cache, self._slots = cache, slots_B
        self._blocks_BN, self._positions = blocks_BN, positions_B
        self._blocks, self._shape = blocks_BN.flatten(), (len(blocks_BN), blocks_BN.shape[1] * BLOCK)
        hidden_BL = torch.arange(self._shape[1], device=positions_B.device) > positions_B[:, None]
        mask_BL = torch.zeros(self._shape, dtype=cache.entries[0].dtype, device=positions_B.device)
        self._mask = mask_BL.masked_fill_(hidden_BL, float("-inf"))[:, None, None]

    def __call__(
        self, layer: int, q_THd: Tensor, k_TKd: Tensor, v_TKd: Tensor, kind: AttentionKind | None = None
    ) -> Tensor:
        batch, padding = len(self._slots), len(q_THd) - len(self._slots)
        if padding:
            q_THd, k_TKd, v_TKd = q_THd[:batch], k_TKd[:batch], v_TKd[:batch]
        self._cache.store(layer, self._slots, k_TKd, v_TKd)
        entries = self._cache.entries[layer]
        if kind is not None:
            parts = [self._one(entries, q_THd[row : row + 1], row, kind) for row in range(batch)]
            return F.pad(torch.cat(parts), (0, 0, 0, padding))
        kv = entries.index_select(0, self._blocks).view(*self._shape, *entries.shape[2:])
        k, v = kv.transpose(1, 2).chunk(2, dim=1)
        # the G query heads of a key-value head stand where a longer query would: one call, no repeated keys
        q_BKGd = q_THd.view(batch, k.shape[1], -1, q_THd.shape[-1])
        group = q_BKGd.shape[2]
        if group < MIN_ROWS:
            q_BKGd = q_BKGd.repeat(1, 1, -(-MIN_ROWS // group), 1)
        mixed = F.scaled_dot_product_attention(q_BKGd, k, v, attn_mask=self._mask)
        out = mixed[:, :, :group].reshape(batch, -1)
        return F.pad(out, (0, 0, 0, padding)) if padding else out

    def _one(self, entries: Tensor, q_1Hd: Tensor, row: int, kind: AttentionKind) -> Tensor:
        length = int(self._positions[row]) + 1
        pages = entries.index_select(0, self._blocks_BN[row, : -(-length // BLOCK)])
        k, v = pages.flatten(0, 1)[:length].chunk(2, dim=1)
        return attend_to(q_1Hd, k, v, kind)
