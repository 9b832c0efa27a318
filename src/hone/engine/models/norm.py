"""RMSNorm (Zhang and Sennrich 2019) with a frozen weight: y = x / sqrt(mean(x^2) + eps) * weight.

The framework's own falls back to a chain of general operations on CPUs; written out, forward and backward take a third
of the passes over memory. The weight arrives as `fold(weight)`, which saves one more: 1/sqrt(mean) = sqrt(d)/sqrt(sum).
"""

from typing import Any

import torch
from torch import Tensor


def fold(weight: Tensor) -> Tensor:
    """The weight times sqrt(d), in float32, as `rms_norm` wants it."""
    folded: Tensor = weight.float() * float(weight.shape[-1]) ** 0.5
    return folded


def rms_norm(x: Tensor, folded: Tensor, eps: float) -> Tensor:
    """Normalise the last dimension; `folded` broadcasts against x. Differentiable in x only."""
    if torch.is_grad_enabled() and x.requires_grad:
        out: Tensor = _RmsNorm.apply(x, folded, eps)  # type: ignore[no-untyped-call]
        return out
    normalised: Tensor = (x * _inverse_length(x, eps)).mul_(folded)
    return normalised


def _inverse_length(x: Tensor, eps: float) -> Tensor:
    """1 / sqrt(sum(x^2) + d eps), [..., 1]"""
    inverse: Tensor = torch.linalg.vecdot(x, x).add_(x.shape[-1] * eps).rsqrt_().unsqueeze_(-1)
    return inverse


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, folded: Tensor, eps: float) -> Tensor:
        inverse = _inverse_length(x, eps)
        ctx.save_for_backward(x, folded, inverse)
        return (x * inverse).mul_(folded)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        x, folded, inverse = ctx.saved_tensors
        # with g = dy * folded: dx = inverse * (g - x * inverse^2 * sum(x * g))
        g = grads[0] * folded
        share = torch.linalg.vecdot(x, g).unsqueeze(-1).mul_(inverse.pow(3)).neg_()
        return g.mul_(inverse).addcmul_(x, share), None, None
