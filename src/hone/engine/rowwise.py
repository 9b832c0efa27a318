"""Matrix products whose rows do not depend on how many rows there are.

Packing tenants together must not change a bit of anybody's result. CPU GEMM libraries keep the order of additions
within a row for any number of rows from four up and any number of columns from two up, and switch to other kernels
below; so smaller products are padded. `tests/unit/engine/test_rowwise.py` holds this against the library that is
installed.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from hone.engine import wide

MIN_ROWS = 4
MIN_COLUMNS = 2


def linear(x_TI: Tensor, weight_OI: Tensor) -> Tensor:
    """x @ weight.T, [T, O]"""
    if x_TI.shape[0] >= MIN_ROWS and weight_OI.shape[0] >= MIN_COLUMNS:
        return wide.product(x_TI, weight_OI.t())
    return _padded_product(x_TI, weight_OI.t())


def matmul(x_TO: Tensor, weight_OI: Tensor) -> Tensor:
    """x @ weight, [T, I]"""
    if x_TO.shape[0] >= MIN_ROWS and weight_OI.shape[1] >= MIN_COLUMNS:
        return wide.product(x_TO, weight_OI)
    return _padded_product(x_TO, weight_OI)


def add_linear(out_TO: Tensor, x_TR: Tensor, weight_OR: Tensor, scale: float) -> None:
    """out += scale * x @ weight.T, in place"""
    _add_product(out_TO, x_TR, weight_OR.t(), scale)


def add_matmul(out_TI: Tensor, x_TR: Tensor, weight_RI: Tensor, scale: float) -> None:
    """out += scale * x @ weight, in place"""
    _add_product(out_TI, x_TR, weight_RI, scale)


def accumulate(out_IO: Tensor, x_TI: Tensor, y_TO: Tensor, scale: float) -> None:
    """out += scale * x.T @ y, in place and in the precision of `out`, which is where gradients are gathered"""
    if x_TI.dtype == out_IO.dtype:
        out_IO.addmm_(x_TI.t(), y_TO, alpha=scale)
    elif x_TI.is_cuda:
        out_IO.add_(torch.mm(x_TI.t(), y_TO, out_dtype=out_IO.dtype), alpha=scale)
    else:
        out_IO.addmm_(x_TI.t().to(out_IO.dtype), y_TO.to(out_IO.dtype), alpha=scale)


def _padded_product(x: Tensor, weight: Tensor) -> Tensor:
    rows, columns = x.shape[0], weight.shape[1]
    more_rows, more_columns = _missing(rows, columns)
    if more_columns:  # padding copies, and a weight can be large
        weight = F.pad(weight, (0, more_columns))
    return (F.pad(x, (0, 0, 0, more_rows)) @ weight)[:rows, :columns]


def _add_product(out: Tensor, x: Tensor, weight: Tensor, scale: float) -> None:
    rows, columns = out.shape
    if rows >= MIN_ROWS and columns >= MIN_COLUMNS:
        out.addmm_(x, weight, alpha=scale)
        return
    # scaling and adding must round as in the long form, so the output is padded too
    more_rows, more_columns = _missing(rows, columns)
    padded = F.pad(out, (0, more_columns, 0, more_rows))
    if more_columns:
        weight = F.pad(weight, (0, more_columns))
    padded.addmm_(F.pad(x, (0, 0, 0, more_rows)), weight, alpha=scale)
    out.copy_(padded[:rows, :columns])


def _missing(rows: int, columns: int) -> tuple[int, int]:
    return max(0, MIN_ROWS - rows), max(0, MIN_COLUMNS - columns)
