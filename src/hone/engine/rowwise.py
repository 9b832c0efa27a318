"""Matrix products whose rows do not depend on how many rows there are.

Packing tenants together must not change a bit of anybody's result. CPU GEMM libraries keep the order of additions
within a row for any number of rows from four up, and switch to other kernels below; so shorter inputs are padded.
`tests/unit/engine/test_rowwise.py` holds this against the library that is installed.
"""

import torch.nn.functional as F
from torch import Tensor

MIN_ROWS = 4


def linear(x_TI: Tensor, weight_OI: Tensor) -> Tensor:
    """x @ weight.T, [T, O]"""
    rows = x_TI.shape[0]
    if rows >= MIN_ROWS:
        return F.linear(x_TI, weight_OI)
    return F.linear(F.pad(x_TI, (0, 0, 0, MIN_ROWS - rows)), weight_OI)[:rows]


def matmul(x_TO: Tensor, weight_OI: Tensor) -> Tensor:
    """x @ weight, [T, I]"""
    rows = x_TO.shape[0]
    if rows >= MIN_ROWS:
        return x_TO @ weight_OI
    return (F.pad(x_TO, (0, 0, 0, MIN_ROWS - rows)) @ weight_OI)[:rows]


def add_linear(out_TO: Tensor, x_TR: Tensor, weight_OR: Tensor, scale: float) -> None:
    """out += scale * x @ weight.T, in place"""
    _add_product(out_TO, x_TR, weight_OR.t(), scale)


def add_matmul(out_TI: Tensor, x_TR: Tensor, weight_RI: Tensor, scale: float) -> None:
    """out += scale * x @ weight, in place"""
    _add_product(out_TI, x_TR, weight_RI, scale)


def _add_product(out: Tensor, x: Tensor, weight: Tensor, scale: float) -> None:
    rows = x.shape[0]
    if rows >= MIN_ROWS:
        out.addmm_(x, weight, alpha=scale)
        return
    # scaling and adding must round as in the long form, so the output is padded too
    padding = (0, 0, 0, MIN_ROWS - rows)
    out.copy_(F.pad(out, padding).addmm_(F.pad(x, padding), weight, alpha=scale)[:rows])
