"""AdamW (Loshchilov and Hutter 2019) in one pass over one flat vector, by the framework's own kernel; its settings may
change every step."""

import math

import torch
from torch import Tensor

from hone.engine.lora.state import AdapterState
from hone.errors import UserError
from hone.protocol.types import AdamParams


def check_adam(params: AdamParams) -> None:
    """`UserError` unless the step is well defined."""
    for name in ("learning_rate", "beta1", "beta2", "eps", "weight_decay", "grad_clip_norm"):
        value = getattr(params, name)
        if not math.isfinite(value) or value < 0:
            raise UserError(f"adam_params.{name} must be a finite number of at least 0, found {value}")
    for name in ("beta1", "beta2"):
        if getattr(params, name) >= 1:
            raise UserError(f"adam_params.{name} must be below 1, found {getattr(params, name)}")


def adamw_step(state: AdapterState, params: AdamParams) -> dict[str, float]:
    """Step on the gathered gradient and clear it; returns metrics.

    `optimizer/grad_norm` is the L2 norm before clipping; the prefix keeps the names apart from a client's own.
    Without a gradient nothing changes, the step count included.
    """
    check_adam(params)
    gradient = state.gradient
    if gradient is None:
        return {"optimizer/skipped": 1.0}
    norm = float(gradient.norm())
    if not math.isfinite(norm):
        state.set_gradient(None)
        raise UserError(
            f"the gathered gradient is not finite (norm {norm}); it was cleared and no step was taken. "
            "Lower the learning rate or check the losses, weights and advantages sent since the last step"
        )
    if 0 < params.grad_clip_norm < norm:
        gradient.mul_(params.grad_clip_norm / norm)
    state.steps += 1
    _update(state.weights, gradient, state.moment1, state.moment2, state.steps, params)
    state.set_gradient(None)
    return {"optimizer/grad_norm": norm, "optimizer/steps": float(state.steps)}


def _update(weights: Tensor, gradient: Tensor, moment1: Tensor, moment2: Tensor, step: int, p: AdamParams) -> None:
    torch._fused_adamw_(
        [weights],
        [gradient],
        [moment1],
        [moment2],
        [],
        [torch.full((), float(step), device=weights.device)],
        lr=p.learning_rate,
        beta1=p.beta1,
        beta2=p.beta2,
        weight_decay=p.weight_decay,
        eps=p.eps,
        amsgrad=False,
        maximize=False,
    )
