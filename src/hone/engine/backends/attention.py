"""Attention on a GPU: the framework's kernel for packed rows, our own for pages of the cache.

The framework's (`varlen_attn`) takes rows of many sequences as they are. Newer versions also take fewer key than query
heads; for the others keys are repeated. It knows pages too from torch 2.13 on, but not of our size, so that ours serves
with every version. Where there is neither (float32, a CPU), general operations do the same, slower.

Legend: T tokens, H heads, K key-value heads, d head size, B sequences, N pages of a sequence.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hone.engine.attention import (
    BLOCK,
    Continuation,
    DecodeAttention,
    KeyValueCache,
    PackedAttention,
    equal_length_runs,
)
from hone.engine.attention_kinds import AttentionKind, attend_to
from hone.engine.backends.kernels import kernels_serve


@cache
def _varlen() -> tuple[Callable[..., Any] | None, bool]:
    """The framework's kernel for packed rows, and whether it shares keys among query heads."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None, False
    return varlen_attn, "enable_gqa" in inspect.signature(varlen_attn).parameters


def _serves(q_THd: Tensor) -> bool:
    return q_THd.is_cuda and q_THd.dtype != torch.float32


class PackedRows(PackedAttention):
    """Every sequence of a pack attends to itself."""

    def __init__(self, lengths: Sequence[int], device: torch.device, invariant: bool = False) -> None:
        super().__init__(lengths)
        self._most, self._invariant = max(lengths, default=0), invariant
        self._borders = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32).to(device)

    def __call__(
        self, layer: int, q_THd: Tensor, k_TKd: Tensor, v_TKd: Tensor, kind: AttentionKind | None = None
    ) -> Tensor:
        if kind is not None:
            return super().__call__(layer, q_THd, k_TKd, v_TKd, kind)
        if self._invariant:
            out: Tensor = _InvariantAttention.apply(q_THd, k_TKd, v_TKd, self)  # type: ignore[no-untyped-call]
            return out
        return self.fast(q_THd, k_TKd, v_TKd)

    def fast(self, q_THd: Tensor, k_TKd: Tensor, v_TKd: Tensor) -> Tensor:
        """[T, H*d]"""
        kernel, shares_keys = _varlen()
        if kernel is None or not _serves(q_THd):
            return self._general(q_THd, k_TKd, v_TKd)
        same_heads = q_THd.shape[1] == k_TKd.shape[1]
        if not same_heads and not shares_keys:
            k_TKd, v_TKd = (x.repeat_interleave(q_THd.shape[1] // x.shape[1], dim=1) for x in (k_TKd, v_TKd))
        more = {} if same_heads or not shares_keys else {"enable_gqa": True}
        rows = (x.contiguous() for x in (q_THd, k_TKd, v_TKd))
        out: Tensor = kernel(*rows, self._borders, self._borders, self._most, self._most, window_size=(-1, 0), **more)
        return out.flatten(1)

    def invariant(self, q_THd: Tensor, k_TKd: Tensor, v_TKd: Tensor) -> Tensor:
        from hone.engine.backends.kernels import attention  # on use: there may be no Triton

        nothing_B = torch.zeros(len(self.lengths), dtype=torch.int32, device=q_THd.device)
        return attention.attend(q_THd, k_TKd, v_TKd, self._borders, nothing_B, None, self._most)

    def _general(self, q_THd: Tensor, k_TKd: Tensor, v_TKd: Tensor) -> Tensor:
        parts = []
        for run in equal_length_runs(self.lengths):
            rows = slice(run.start, run.start + run.count * run.length)
            q, k, v = (x[rows].unflatten(0, (run.count, run.length)).transpose(1, 2) for x in (q_THd, k_TKd, v_TKd))
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])
            parts.append(mixed.transpose(1, 2).flatten(0, 1).flatten(1))
        return parts[0] if len(parts) == 1 else torch.cat(parts)


class _InvariantAttention(torch.autograd.Function):
    """Forward as decoding does; the backward pass may be the framework's, which computes the forward pass once more."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, rows: PackedRows) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.rows = rows
        return rows.invariant(q, k, v)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        inputs = [x.detach().requires_grad_() for x in ctx.saved_tensors]
        with torch.enable_grad():
            out = ctx.rows.fast(*inputs)
        return *torch.autograd.grad(out, inputs, grads[0]), None


class PrefillPages:
    """Prompts: rows of whole ones come first, then those that continue what is cached; keys and values are kept."""

    def __init__(
        self, whole: PackedRows, rows: int, cache: KeyValueCache, slots_T: Tensor, continued: Sequence[Continuation]
    ) -> None:
        self._whole, self._rows, self._cache, self._slots = whole, rows, cache, slots_T
        self._continued = continued
        if continued:
            device = slots_T.device
            starts = [one.start - rows for one in continued]
            self._most = max(one.length for one in continued)
            self._borders = torch.tensor([*starts, starts[-1] + continued[-1].length], dtype=torch.int32).to(device)
            self._cached = torch.tensor([one.cached for one in continued], dtype=torch.int32).to(device)
            self._tables = torch.zeros(len(continued), max(len(one.blocks_N) for one in continued), dtype=torch.int32)
            for i, one in enumerate(continued):
                self._tables[i, : len(one.blocks_N)] = one.blocks_N
            self._tables = self._tables.to(device)

    def __call__(
        self, layer: int, q_THd: Tensor, k_TKd: Tensor, v_TKd: Tensor, kind: AttentionKind | None = None
    ) -> Tensor:
        self._cache.store(layer, self._slots, k_TKd, v_TKd)
        rows, parts = self._rows, []
        if rows:
            parts.append(self._whole(layer, q_THd[:rows], k_TKd[:rows], v_TKd[:rows], kind))
        if self._continued and kind is None and kernels_serve(q_THd):
            from hone.engine.backends.kernels import attention

            k, v = self._cache.entries[layer].flatten(0, 1).chunk(2, dim=1)
            parts.append(
                attention.attend(q_THd[rows:], k, v, self._borders, self._cached, self._tables, self._most, BLOCK)
            )
        elif self._continued:
            parts += [self._general(layer, q_THd, one, kind) for one in self._continued]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _general(self, layer: int, q_THd: Tensor, one: Continuation, kind: AttentionKind | None) -> Tensor:
        pages = self._cache.entries[layer].index_select(0, one.blocks_N.to(q_THd.device))
        k, v = pages.flatten(0, 1)[: one.cached + one.length].chunk(2, dim=1)
        q = q_THd[one.start : one.start + one.length]
        return attend_to(q, k, v, kind or AttentionKind(q.shape[2] ** -0.5))


class DecodePages:
    """One new token of each row attends to everything cached before it. Nothing here depends on the host, so that a
    graph can hold it; but for attention of other kinds, which none holds."""

    def __init__(
        self,
        cache: KeyValueCache,
        blocks_BN: Tensor,
        slots_B: Tensor,
        positions_B: Tensor,
        most_keys: int,
        invariant: bool = False,
    ) -> None:
        """`blocks_BN` and `positions_B` int32, `slots_B` int64. `most_keys` bounds the length of the sequences."""
        self._cache, self._blocks_BN, self._slots, self._positions = cache, blocks_BN, slots_B, positions_B
        self._most_keys = 0 if invariant else most_keys
        self._borders = torch.arange(len(slots_B) + 1, dtype=torch.int32, device=slots_B.device)
        self._general: DecodeAttention | None = None

    def __call__(
        self, layer: int, q_THd: Tensor, k_TKd: Tensor, v_TKd: Tensor, kind: AttentionKind | None = None
    ) -> Tensor:
        if kind is not None or not kernels_serve(q_THd):
            if self._general is None:
                self._general = DecodeAttention(self._cache, self._blocks_BN, self._slots, self._positions)
            return self._general(layer, q_THd, k_TKd, v_TKd, kind)
        from hone.engine.backends.kernels import attention

        self._cache.store(layer, self._slots, k_TKd, v_TKd)
        k, v = self._cache.entries[layer].flatten(0, 1).chunk(2, dim=1)
        return attention.attend(q_THd, k, v, self._borders, self._positions, self._blocks_BN, 1, BLOCK, self._most_keys)
