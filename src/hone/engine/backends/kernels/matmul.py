"""x @ w.T for groups of rows, without split-K and with the same tiles at any size: equal rows give equal bits.

Legend: T rows, sorted by group, G groups, K inputs, N outputs.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from hone.engine.backends.kernels.dot import dot, precision

ROWS, COLUMNS, DEPTH = 64, 128, 64


@triton.jit
def _product(
    x_ptr,
    w_ptr,
    out_ptr,
    stops_ptr,
    N,
    K,
    x_row,
    w_group,
    w_row,
    w_column,
    out_row,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    PRECISION: tl.constexpr,
):
    group = tl.program_id(2)
    first = tl.load(stops_ptr + group - 1, mask=group > 0, other=0)
    stop = tl.load(stops_ptr + group)
    start = first + tl.program_id(0) * ROWS
    if start < stop:
        rows = start + tl.arange(0, ROWS)
        columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
        x_rows = x_ptr + rows.to(tl.int64)[:, None] * x_row
        w_rows = w_ptr + group.to(tl.int64) * w_group + columns.to(tl.int64)[None, :] * w_row
        total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
        for k in range(0, K, DEPTH):
            depth = k + tl.arange(0, DEPTH)
            x = tl.load(x_rows + depth[None, :], mask=(rows < stop)[:, None] & (depth < K)[None, :], other=0.0)
            w = tl.load(
                w_rows + depth.to(tl.int64)[:, None] * w_column,
                mask=(columns < N)[None, :] & (depth < K)[:, None],
                other=0.0,
            )
            total = dot(x, w, total, PRECISION)
        tl.store(
            out_ptr + rows.to(tl.int64)[:, None] * out_row + columns[None, :],
            total.to(out_ptr.dtype.element_ty),
            mask=(rows < stop)[:, None] & (columns < N)[None, :],
        )


def grouped_product(x_TK: Tensor, w_GNK: Tensor, stops_G: Tensor) -> Tensor:
    """Each group's x @ w.T, [T, N]; `stops_G` int32, the row behind each group's last."""
    if x_TK.stride(1) != 1:
        x_TK = x_TK.contiguous()
    groups, outputs, inputs = w_GNK.shape
    out_TN = torch.empty(len(x_TK), outputs, dtype=x_TK.dtype, device=x_TK.device)
    grid = (triton.cdiv(max(1, len(x_TK)), ROWS), triton.cdiv(outputs, COLUMNS), groups)
    _product[grid](
        x_TK,
        w_GNK,
        out_TN,
        stops_G,
        outputs,
        inputs,
        x_TK.stride(0),
        *w_GNK.stride(),
        out_TN.stride(0),
        ROWS=ROWS,
        COLUMNS=COLUMNS,
        DEPTH=DEPTH,
        PRECISION=precision(x_TK),
    )
    return out_TN
