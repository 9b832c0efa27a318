"""What a custom loss may call. Everything else is refused by name.

The list holds what is a pure function of its arguments with a result about as large as they are: nothing in place,
random, on disk, on other devices, or that runs code that it is given.
"""

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_ELEMENTWISE = """
abs absolute acos acosh add angle asin asinh atan atan2 atanh bitwise_and bitwise_not bitwise_or bitwise_xor ceil clamp
clip copysign cos cosh deg2rad div divide eq erf erfc erfinv exp exp2 expm1 fix float_power floor floor_divide fmax
fmin fmod frac ge greater greater_equal gt heaviside hypot isclose isfinite isinf isnan ldexp le lerp less less_equal
lgamma log log10 log1p log2 logaddexp logaddexp2 logical_and logical_not logical_or logical_xor logit lt masked_fill
maximum minimum mul multiply nan_to_num ne neg negative not_equal positive pow rad2deg reciprocal relu remainder round
rsqrt sgn sigmoid sign signbit sin sinh sqrt square sub subtract tan tanh threshold true_divide trunc where xlogy
addcdiv addcmul rsub softmax log_softmax
""".split()
_REDUCTIONS = """
all amax amin aminmax any argmax argmin argsort count_nonzero cummax cummin cumprod cumsum dot inner logcumsumexp
logsumexp max mean median min msort nanmean nansum norm prod quantile sort std std_mean sum topk var var_mean diff
""".split()
_SHAPES = """
atleast_1d atleast_2d broadcast_to cat chunk clone concat detach diagonal expand_as flatten flip gather hstack
index_select masked_select matmul mv movedim narrow numel outer permute ravel reshape roll select split squeeze stack
swapaxes t take take_along_dim transpose tril triu unbind unflatten unsqueeze view_as vstack
""".split()
_MAKERS = "arange full full_like ones ones_like tensor zeros zeros_like as_tensor scalar_tensor".split()
_METHODS_ONLY = """
bool contiguous dim double expand float int long new_full new_ones new_zeros ndimension reshape_as size to type_as view
""".split()
_FUNCTIONAL = """
binary_cross_entropy binary_cross_entropy_with_logits elu gelu hardtanh huber_loss kl_div l1_loss leaky_relu logsigmoid
mish mse_loss normalize relu6 selu silu smooth_l1_loss softmin softplus softsign
""".split()
_MATH = "acos asin atan ceil cos exp fabs floor isfinite isinf isnan log log10 log1p log2 pow sin sqrt tan tanh".split()
_OPERATORS = """
abs add and_ eq floordiv ge getitem gt inv invert le lt matmul mod mul ne neg not_ or_ pos pow sub truediv xor
""".split()

ATTRIBUTES = frozenset("T device dtype indices mT ndim shape values".split())
METHODS = frozenset(name for name in [*_ELEMENTWISE, *_REDUCTIONS, *_SHAPES, *_METHODS_ONLY] if hasattr(Tensor, name))
DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, name) for name in "float32 float64 float double int64 long int32 int bool".split()
}


def _functions() -> dict[str, Callable[..., Any]]:
    found: dict[str, Callable[..., Any]] = {}
    for name in (*_ELEMENTWISE, *_REDUCTIONS, *_SHAPES, *_MAKERS):
        if hasattr(torch, name):
            found[f"torch.{name}"] = getattr(torch, name)
    for name in (*_FUNCTIONAL, "relu", "sigmoid", "tanh", "softmax", "log_softmax", "threshold"):
        for prefix in ("torch.nn.functional.", "torch._C._nn."):
            found[prefix + name] = getattr(torch.nn.functional, name)
    for name in ("expit", "logit", "log1p", "expm1", "xlogy", "entr", "log_softmax", "softmax", "logsumexp", "erf"):
        found[f"torch.special.{name}"] = getattr(torch.special, name)
        found[f"torch._C._special.special_{name}"] = getattr(torch.special, name)
    found |= {f"math.{name}": getattr(math, name) for name in _MATH}
    found |= {f"operator.{name}": getattr(operator, name) for name in _OPERATORS}
    return found


FUNCTIONS = _functions()


def method(name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(Tensor, name)
    return found
