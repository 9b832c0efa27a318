"""Causal attention with keys and values from a paged cache or from packed rows (after Dao et al. 2022).

One program serves some query rows of one key-value head: the query heads that share it, position by position. It goes
through the keys in tiles of fixed size from the first one on, so what a position gets depends neither on the batch nor
on how many of its neighbours are computed with it. Where few rows attend to much (decoding), runs of `SPLIT` keys are
gone through by programs of their own, and put together in order by a second kernel.

Legend: T rows, B sequences, H query heads, K key-value heads, G query heads per key-value head, d head size, N pages of
a sequence, P runs of keys.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from hone.engine.backends.kernels.dot import dot, precision

ROWS, KEYS = 16, 64
SPLIT = 512


@triton.jit
def _attend(
    q_ptr,
    k_ptr,
    v_ptr,
    out_ptr,
    sums_ptr,  # of runs: the largest score and the sum of shares
    borders_ptr,  # B + 1: first rows of the sequences
    cached_ptr,  # B: positions before the first row
    tables_ptr,  # B, N: pages
    scale,
    q_row,
    q_head,
    k_row,
    k_head,
    v_row,
    v_head,
    pages,
    H,
    d,
    G: tl.constexpr,
    PAGE: tl.constexpr,  # 0: keys are packed rows
    SPLIT: tl.constexpr,  # 0: all keys in one run
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    WIDTH: tl.constexpr,
    PRECISION: tl.constexpr,
):
    sequence, kv_head, runs = tl.program_id(2), tl.program_id(1), 1
    tile, run = tl.program_id(0), 0
    if SPLIT > 0:
        runs = tl.num_programs(0)  # then a sequence has one tile of rows
        tile, run = 0, tl.program_id(0)
    first = tl.load(borders_ptr + sequence)
    rows = tl.load(borders_ptr + sequence + 1) - first
    cached = tl.load(cached_ptr + sequence)
    at = tile * ROWS + tl.arange(0, ROWS)
    position = at // G  # among the new ones
    head = kv_head * G + at % G
    real = position < rows
    highest = cached + tl.minimum(rows, (tile * ROWS + ROWS - 1) // G + 1)  # keys that the last row of the tile sees
    low, high = 0, highest
    if SPLIT > 0:
        low = run * SPLIT
        high = tl.minimum(highest, low + SPLIT)
    if (tile * ROWS // G < rows) & (low < high):
        width = tl.arange(0, WIDTH)
        row = (first + position).to(tl.int64)
        q = tl.load(
            q_ptr + row[:, None] * q_row + head[:, None] * q_head + width[None, :],
            mask=real[:, None] & (width < d)[None, :],
            other=0.0,
        )
        best = tl.full((ROWS,), float("-inf"), dtype=tl.float32)
        total = tl.zeros((ROWS,), dtype=tl.float32)
        mixed = tl.zeros((ROWS, WIDTH), dtype=tl.float32)
        for start in range(low, high, KEYS):
            key = start + tl.arange(0, KEYS)
            known = key < high
            if PAGE > 0:
                page = tl.load(tables_ptr + sequence.to(tl.int64) * pages + key // PAGE, mask=known, other=0)
                key_row = page.to(tl.int64) * PAGE + key % PAGE
            else:
                key_row = (first + key).to(tl.int64)
            k = tl.load(
                k_ptr + key_row[None, :] * k_row + kv_head * k_head + width[:, None],
                mask=known[None, :] & (width < d)[:, None],
                other=0.0,
            )
            scores = dot(q, k, tl.zeros((ROWS, KEYS), dtype=tl.float32), PRECISION) * scale
            seen = known[None, :] & (key[None, :] <= (cached + position)[:, None])
            scores = tl.where(seen, scores, float("-inf"))
            higher = tl.maximum(best, tl.max(scores, axis=1))
            base = tl.where(higher == float("-inf"), 0.0, higher)
            shares = tl.exp(scores - base[:, None])
            kept = tl.exp(best - base)
            v = tl.load(
                v_ptr + key_row[:, None] * v_row + kv_head * v_head + width[None, :],
                mask=known[:, None] & (width < d)[None, :],
                other=0.0,
            )
            total = total * kept + tl.sum(shares, axis=1)
            mixed = dot(shares.to(v.dtype), v, mixed * kept[:, None], PRECISION)
            best = higher
        place = (row * H + head) * runs + run
        inside = real[:, None] & (width < d)[None, :]
        if SPLIT > 0:
            tl.store(out_ptr + place[:, None] * d + width[None, :], mixed, mask=inside)
            tl.store(sums_ptr + 2 * place, best, mask=real)
            tl.store(sums_ptr + 2 * place + 1, total, mask=real)
        else:
            mixed = mixed / tl.where(real, total, 1.0)[:, None]
            tl.store(out_ptr + place[:, None] * d + width[None, :], mixed.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _put_together(
    parts_ptr,
    sums_ptr,
    out_ptr,
    cached_ptr,
    H,
    d,
    runs,
    SPLIT: tl.constexpr,
    WIDTH: tl.constexpr,
):
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    width = tl.arange(0, WIDTH)
    best = tl.full((1,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((1,), dtype=tl.float32)
    mixed = tl.zeros((WIDTH,), dtype=tl.float32)
    for run in range(tl.load(cached_ptr + row) // SPLIT + 1):
        place = (row * H + head) * runs + run
        part = tl.load(parts_ptr + place * d + width, mask=width < d, other=0.0)
        highest, shares = tl.load(sums_ptr + 2 * place), tl.load(sums_ptr + 2 * place + 1)
        higher = tl.maximum(best, highest)
        kept, added = tl.exp(best - higher), tl.exp(highest - higher)
        total = total * kept + shares * added
        mixed = mixed * kept + part * added
        best = higher
    at = (row * H + head) * d + width
    tl.store(out_ptr + at, (mixed / total).to(out_ptr.dtype.element_ty), mask=width < d)


def attend(
    q_THd: Tensor,
    k: Tensor,
    v: Tensor,
    borders: Tensor,
    cached_B: Tensor,
    tables_BN: Tensor | None,
    most_rows: int,
    page: int = 0,
    most_keys: int = 0,
) -> Tensor:
    """[T, H*d]. `borders` int32 [B + 1] are the sequences' first rows, of `most_rows` at the most; `cached_B` int32 how
    many positions come before them.

    Keys and values are [slots, K, d], which `tables_BN` int32 finds by pages of `page` slots, or, without it, the
    packed rows themselves. With `most_keys` every sequence has one row and no more keys than that, gone through in
    runs.
    """
    rows, heads, d = q_THd.shape
    kv_heads, sequences = k.shape[1], len(cached_B)
    group, runs = heads // kv_heads, triton.cdiv(most_keys, SPLIT)
    if q_THd.stride(2) != 1:
        q_THd = q_THd.contiguous()
    split = SPLIT if runs > 1 else 0
    if split and group > ROWS:
        split, runs = 0, 0
    width = max(16, triton.next_power_of_2(d))
    out = torch.empty(rows, heads * d, dtype=q_THd.dtype, device=q_THd.device)
    parts, sums = out, out
    if split:
        parts = torch.empty(rows, heads, runs, d, dtype=torch.float32, device=out.device)
        sums = torch.empty(rows, heads, runs, 2, dtype=torch.float32, device=out.device)
    tiles = runs if split else triton.cdiv(most_rows * group, ROWS)
    _attend[(tiles, kv_heads, sequences)](
        q_THd,
        k,
        v,
        parts,
        sums,
        borders,
        cached_B,
        cached_B if tables_BN is None else tables_BN,
        d**-0.5,
        *q_THd.stride()[:2],
        *k.stride()[:2],
        *v.stride()[:2],
        0 if tables_BN is None else tables_BN.stride(0),
        heads,
        d,
        G=group,
        PAGE=page,
        SPLIT=split,
        ROWS=ROWS,
        KEYS=KEYS,
        WIDTH=width,
        PRECISION=precision(out),
    )
    if split:
        _put_together[(rows, heads)](parts, sums, out, cached_B, heads, d, runs, SPLIT=SPLIT, WIDTH=width)
    return out
