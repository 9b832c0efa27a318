"""The product of two tiles, summed in float32."""

import torch
import triton
import triton.language as tl
from torch import Tensor


def precision(x: Tensor) -> str:
    """How tiles of `x` are multiplied: float32 is never shortened, and the interpreter knows no product of bfloat16."""
    if not x.is_cuda:
        return "widened"
    return "ieee" if x.dtype == torch.float32 else "tf32"


@triton.jit
def dot(a, b, total, PRECISION: tl.constexpr):
    """total + a @ b"""
    if PRECISION == "widened":
        return total + tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="ieee")
    return tl.dot(a, b, total, input_precision=PRECISION)
