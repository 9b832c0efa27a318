"""Matrix products whose rows do not depend on how many rows there are.

Packing tenants together must not change a bit of anybody's result. CPU GEMM libraries keep the order of additions
within a row for any number of rows from four up and any number of columns from two up, and switch to other kernels
below; so smaller products are padded. `tests/unit/engine/test_rowwise.py` holds this against the library that is
installed. The compiler of `compiled.py` takes these functions too.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from hone.engine import wide

MIN_ROWS = 4
MIN_COLUMNS = 2


def linear(x_TI: Tensor, weight_OI: Tensor) -> Tensor:
    """x @ weight.T, [T, O]"""
    return matmul(x_TI, weight_OI.t())


def matmul(x_TO: Tensor, weight_OI: Tensor) -> Tensor:
    """x @ weight, [T, I]"""
    rows, columns = x_TO.shape[0], weight_OI.shape[1]
    more_rows, more_columns = _missing(rows, columns)
    if more_rows + more_columns == 0:
        return _product(x_TO, weight_OI)
    if more_columns > 0:  # padding copies, and a weight can be large
        weight_OI = F.pad(weight_OI, [0, more_columns])
    return (F.pad(x_TO, [0, 0, 0, more_rows]) @ weight_OI)[:rows, :columns]


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


def _product(x: Tensor, weight: Tensor) -> Tensor:
    if torch.jit.is_scripting():  # type: ignore[attr-defined]
        return torch.mm(x, weight)  # a compiled call is one thread's work, and the other branch no part of it
    else:
        return wide.product(x, weight)


def _add_product(out: Tensor, x: Tensor, weight: Tensor, scale: float) -> None:
    rows, columns = out.shape
    more_rows, more_columns = _missing(rows, columns)
    if more_rows + more_columns == 0:
        out.addmm_(x, weight, alpha=scale)
        return
    # scaling and adding must round as in the long form, so the output is padded too
    padded = F.pad(out, [0, more_columns, 0, more_rows])
    if more_columns > 0:
        weight = F.pad(weight, [0, more_columns])
    padded.addmm_(F.pad(x, [0, 0, 0, more_rows]), weight, alpha=scale)
    out.copy_(padded[:rows, :columns])


def _missing(rows: int, columns: int, least: tuple[int, int] = (MIN_ROWS, MIN_COLUMNS)) -> tuple[int, int]:
    return max(0, least[0] - rows), max(0, least[1] - columns)  # the compiler knows constants as defaults only
