"""RMSNorm (Zhang and Sennrich 2019) with a frozen weight: y = x / sqrt(mean(x^2) + eps) * weight.

The framework's own falls back to a chain of general operations on CPUs; written out, forward and backward take a
third of the passes over memory.
"""

from typing import Any

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Normalise the last dimension; `weight` broadcasts against x. Differentiable in x only."""
    if torch.is_grad_enabled() and x.requires_grad:
        out: Tensor = _RmsNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
        return out
    normalised: Tensor = (x * _inverse_rms(x, eps)).mul_(weight)
    return normalised


def _inverse_rms(x: Tensor, eps: float) -> Tensor:
    """[..., 1]"""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    inverse: Tensor = length.square_().mul_(1.0 / x.shape[-1]).add_(eps).rsqrt_()
    return inverse


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        inverse = _inverse_rms(x, eps)
        ctx.save_for_backward(x, weight, inverse)
        return (x * inverse).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        x, weight, inverse = ctx.saved_tensors
        # with n = x * inverse and g = dy * weight: dx = inverse * (g - n * mean(n * g))
        g = grads[0] * weight
        share = torch.linalg.vecdot(x, g).unsqueeze(-1).mul_(inverse.pow(3)).mul_(-1.0 / x.shape[-1])
        return g.mul_(inverse).addcmul_(x, share), None, None
