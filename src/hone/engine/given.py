"""Backward passes from gradients that are known.

`Tensor.backward(gradient)` and its kin load a library for symbolic shapes first, to compare two shapes: 35 MB, and 0.3
to 0.5 s of the first training step. From a number without a gradient of its own they do not.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def backward(outs: Sequence[Tensor], grads: Sequence[Tensor]) -> None:
    """Add to every leaf's gradient what follows from d loss / d out = grad, for each out."""
    with torch.enable_grad():
        _Given.apply(grads, *outs).backward()  # type: ignore[no-untyped-call]


class _Given(torch.autograd.Function):
    """A number whose gradients are given."""

    @staticmethod
    def forward(ctx: Any, grads: Sequence[Tensor], *outs: Tensor) -> Tensor:
        ctx.grads = grads
        return torch.zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor | None, ...]:
        return None, *ctx.grads
