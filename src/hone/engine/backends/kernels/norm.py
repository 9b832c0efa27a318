"""RMSNorm, one row per program, in float32 inside: see `hone.engine.models.norm` for the formulas.

Legend: T rows, W rows of the weight (heads, or one), d numbers of a row.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _forward(x_ptr, folded_ptr, y_ptr, x_row, x_head, eps_sum, W, d, WIDTH: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    head = row % W
    at = tl.arange(0, WIDTH)
    x = tl.load(x_ptr + row // W * x_row + head * x_head + at, mask=at < d, other=0.0).to(tl.float32)
    folded = tl.load(folded_ptr + head * d + at, mask=at < d, other=0.0)
    inverse = 1.0 / tl.sqrt(tl.sum(x * x, axis=0) + eps_sum)
    tl.store(y_ptr + row * d + at, (x * inverse * folded).to(y_ptr.dtype.element_ty), mask=at < d)


@triton.jit
def _backward(
    dy_ptr,
    x_ptr,
    folded_ptr,
    dx_ptr,
    x_row,
    x_head,
    eps_sum,
    W,
    d,
    WIDTH: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    head = row % W
    at = tl.arange(0, WIDTH)
    x = tl.load(x_ptr + row // W * x_row + head * x_head + at, mask=at < d, other=0.0).to(tl.float32)
    folded = tl.load(folded_ptr + head * d + at, mask=at < d, other=0.0)
    g = tl.load(dy_ptr + row * d + at, mask=at < d, other=0.0).to(tl.float32) * folded
    inverse = 1.0 / tl.sqrt(tl.sum(x * x, axis=0) + eps_sum)
    share = inverse * inverse * tl.sum(x * g, axis=0)
    tl.store(dx_ptr + row * d + at, (inverse * (g - x * share)).to(dx_ptr.dtype.element_ty), mask=at < d)


def rms_norm(x: Tensor, folded: Tensor, eps: float) -> Tensor:
    """As `hone.engine.models.norm.rms_norm`, for x [T, d] or [T, W, d]."""
    if torch.is_grad_enabled() and x.requires_grad:
        out: Tensor = _RmsNorm.apply(x, folded, eps)
        return out
    return _run(x, folded, eps)


def _shape(x: Tensor) -> tuple[Tensor, int, int]:
    """As [T, W, d] with numbers side by side, its W and its d."""
    x_TWd = x if x.ndim == 3 else x[:, None]
    return (x_TWd if x_TWd.stride(2) == 1 else x_TWd.contiguous()), x_TWd.shape[1], x_TWd.shape[2]


def _run(x: Tensor, folded: Tensor, eps: float) -> Tensor:
    x_TWd, heads, d = _shape(x)
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    folded = folded.contiguous()
    if len(x):
        _forward[(len(x) * heads,)](
            x_TWd, folded, y, *x_TWd.stride()[:2], d * eps, heads, d, WIDTH=triton.next_power_of_2(d)
        )
    return y


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, folded: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, folded)
        ctx.eps = eps
        return _run(x, folded, eps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        x, folded = ctx.saved_tensors
        x_TWd, heads, d = _shape(x)
        dx = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        if len(x):
            _backward[(len(x) * heads,)](
                grads[0].contiguous(),
                x_TWd,
                folded.contiguous(),
                dx,
                *x_TWd.stride()[:2],
                d * ctx.eps,
                heads,
                d,
                WIDTH=triton.next_power_of_2(d),
            )
        return dx, None, None
