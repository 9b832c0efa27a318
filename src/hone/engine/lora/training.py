"""A group of projections in a training pass, without autograd: `lora/linear.py` for functions that are compiled whole.

The same operations in the same order, so the forward pass has the same bits; the backward pass adds each adapter's
gradient straight into that adapter's own flat buffer.

Legend: T tokens, I inputs, O outputs of all sites of the group, R rank, S sites.
"""

from collections.abc import Sequence
from typing import List, NamedTuple  # noqa: UP035 - the compiler's name for list

import torch
from torch import Tensor

from hone.engine import rowwise
from hone.engine.lora.linear import Segment

NARROW = 16
"""Columns of a product, below which the math library takes up to six times as long as for its transpose."""


class GroupLora(NamedTuple):
    """The adapters of one group: rows `starts[e]:stops[e]` use the matrices `e`."""

    starts: List[int]  # noqa: UP006
    stops: List[int]  # noqa: UP006
    scales: List[float]  # noqa: UP006
    a: List[Tensor]  # noqa: UP006
    """[S*R, I]"""
    b: List[Tensor]  # noqa: UP006
    """[O of a site, R], those of all S sites one after another"""
    da: List[Tensor]  # noqa: UP006
    """Where the gradients are gathered; empty where the adapters are only read."""
    db: List[Tensor]  # noqa: UP006


def group_lora(segments: Sequence[Segment]) -> GroupLora:
    """Those with rows; either all of a pass gather gradients or none does."""
    found = [s for s in segments if s.stop > s.start]
    gradients = [s.gradients for s in found if s.gradients is not None]
    return GroupLora(
        [s.start for s in found],
        [s.stop for s in found],
        [s.scale for s in found],
        [s.weights.a for s in found],
        [b for s in found for b in s.weights.b],
        [g.a for g in gradients],
        [b for g in gradients for b in g.b],
    )


def project_forward(x_TI: Tensor, weight_OI: Tensor, lora: GroupLora, inner: List[Tensor]) -> Tensor:  # noqa: UP006
    """x @ weight.T plus each adapter's part, [T, O]; appends each one's x @ A.T [rows, S*R] to `inner`."""
    out_TO = rowwise.linear(x_TI, weight_OI)
    for e in range(len(lora.starts)):
        start, rows = lora.starts[e], lora.stops[e] - lora.starts[e]
        inner_TSR = rowwise.linear(x_TI.narrow(0, start, rows), lora.a[e])
        inner.append(inner_TSR)
        sites = len(lora.b) // len(lora.starts)
        column, rank = 0, inner_TSR.shape[1] // sites
        for i in range(sites):
            b = lora.b[e * sites + i]
            part = inner_TSR.narrow(1, i * rank, rank)
            rowwise.add_linear(out_TO.narrow(0, start, rows).narrow(1, column, b.shape[0]), part, b, lora.scales[e])
            column += b.shape[0]
    return out_TO


def project_backward(
    dout_TO: Tensor,
    x_TI: Tensor,
    weight_OI: Tensor,
    lora: GroupLora,
    inner: List[Tensor],  # noqa: UP006
    want_dx: bool,
    narrow_below: int = NARROW,
) -> Tensor:
    """d loss / d x, or something else unless it is wanted; the adapters' gradients are added to theirs."""
    dx_TI = rowwise.matmul(dout_TO, weight_OI) if want_dx else x_TI
    for e in range(len(lora.starts)):
        start, rows = lora.starts[e], lora.stops[e] - lora.starts[e]
        dout, x = dout_TO.narrow(0, start, rows), x_TI.narrow(0, start, rows)
        sites = len(lora.b) // len(lora.starts)
        rank = inner[e].shape[1] // sites
        narrow = rank < narrow_below
        dinner_TSR = inner[e].new_empty([inner[e].shape[1], rows]).t() if narrow else torch.empty_like(inner[e])
        column = 0
        for i in range(sites):
            b, part = lora.b[e * sites + i], inner[e].narrow(1, i * rank, rank)
            columns = dout.narrow(1, column, b.shape[0])
            if narrow:
                torch.mm(b.t(), columns.t(), out=dinner_TSR.t().narrow(0, i * rank, rank))
            else:
                torch.mm(columns, b, out=dinner_TSR.narrow(1, i * rank, rank))
            if len(lora.db) > 0:
                db = lora.db[e * sites + i]
                if narrow:
                    db.add_(part.t().mm(columns).t(), alpha=lora.scales[e])
                else:
                    db.addmm_(columns.t(), part, alpha=lora.scales[e])
            column += b.shape[0]
        if len(lora.da) > 0:
            lora.da[e].addmm_(dinner_TSR.t(), x, alpha=lora.scales[e])
        if want_dx:
            rowwise.add_matmul(dx_TI.narrow(0, start, rows), dinner_TSR, lora.a[e], lora.scales[e])
    return dx_TI
