"""A frozen projection plus the LoRA deltas of every adapter in the batch.

The backward pass adds each adapter's gradient straight into that adapter's own flat buffer: nothing of one tenant ever
shares a tensor with another's, and no gradient of the base weight is formed.

Legend: T tokens, I inputs, O outputs of all sites of the group, R rank, S sites.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hone.engine import rowwise
from hone.engine.lora.layout import GroupWeights


@dataclass(frozen=True)
class Segment:
    """Rows `start:stop` of the batch use these matrices; without `gradients` they only read them."""

    start: int
    stop: int
    weights: GroupWeights
    gradients: GroupWeights | None
    scale: float


def project(x_TI: Tensor, weight_OI: Tensor, segments: Sequence[Segment]) -> Tensor:
    """x @ weight.T plus each segment's scale * (x @ A.T) @ B.T, [T, O]; differentiable in x."""
    if torch.is_grad_enabled() and x_TI.requires_grad:
        out: Tensor = _Projection.apply(x_TI, weight_OI, segments)  # type: ignore[no-untyped-call]
        return out
    return _forward(x_TI, weight_OI, segments)[0]


def _forward(x_TI: Tensor, weight_OI: Tensor, segments: Sequence[Segment]) -> tuple[Tensor, list[Tensor]]:
    out_TO, inner = rowwise.linear(x_TI, weight_OI), []
    for s in segments:
        alone = s.start == 0 and s.stop >= x_TI.shape[0]  # a slice of everything costs as much as a small product
        inner_TSR = rowwise.linear(x_TI if alone else x_TI[s.start : s.stop], s.weights.a)
        inner.append(inner_TSR)
        rows = out_TO if alone else out_TO[s.start : s.stop]
        if len(s.weights.b) == 1:
            rowwise.add_linear(rows, inner_TSR, s.weights.b[0], s.scale)
            continue
        column, rank = 0, s.weights.b[0].shape[1]
        for i, b in enumerate(s.weights.b):
            part = inner_TSR[:, i * rank : (i + 1) * rank]
            rowwise.add_linear(rows[:, column : column + b.shape[0]], part, b, s.scale)
            column += b.shape[0]
    return out_TO, inner


class _Projection(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TI: Tensor, weight_OI: Tensor, segments: Sequence[Segment]) -> Tensor:
        out_TO, inner = _forward(x_TI, weight_OI, segments)
        ctx.segments = segments
        ctx.save_for_backward(x_TI, weight_OI, *inner)
        return out_TO

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        x_TI, weight_OI, *inner = ctx.saved_tensors
        dout_TO = grads[0]
        dx_TI = rowwise.matmul(dout_TO, weight_OI)
        for s, inner_TSR in zip(ctx.segments, inner, strict=True):
            if s.start == s.stop:
                continue
            dout, x = dout_TO[s.start : s.stop], x_TI[s.start : s.stop]
            dinner_TSR, column, rank = torch.empty_like(inner_TSR), 0, s.weights.b[0].shape[1]
            for i, b in enumerate(s.weights.b):
                part, columns = slice(i * rank, (i + 1) * rank), slice(column, column + b.shape[0])
                dinner_TSR[:, part] = rowwise.matmul(dout[:, columns], b)
                if s.gradients is not None:
                    rowwise.accumulate(s.gradients.b[i], dout[:, columns], inner_TSR[:, part], s.scale)
                column += b.shape[0]
            if s.gradients is not None:
                rowwise.accumulate(s.gradients.a, dinner_TSR, x, s.scale)
            rowwise.add_matmul(dx_TI[s.start : s.stop], dinner_TSR, s.weights.a, s.scale)
        return dx_TI, None, None
