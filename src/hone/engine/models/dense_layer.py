"""A dense layer of a training pass, forward and backward, without autograd and in few passes over memory.

Operation for operation what `Decoder.plain_layer` does, so the bits are the same. Everything but the attention runs in
compiled calls of one thread each, which need no Python between their operations: small steps are quicker, and the
threads of `side_by_side.py` do not wait for each other. Where one long sequence has the help of other threads
(`wide.py`) the same functions run uncompiled, with the same bits. Small models have their layers in C where that could
be compiled, see `native/layers.py`.

Legend: T tokens, h hidden, H heads, K key-value heads, d head size, M intermediate size, S sites, R rank.
"""

from typing import Any, List, NamedTuple, Optional, Tuple  # noqa: UP035 - the compiler's names

import torch
import torch.nn.functional as F
from torch import Tensor

from hone.engine import wide
from hone.engine.attention import PackedAttention
from hone.engine.compiled import compiled
from hone.engine.lora.batch import LoraBatch
from hone.engine.lora.training import GroupLora, group_lora, project_backward, project_forward
from hone.engine.models.config import ModelConfig
from hone.engine.models.weights import DenseMlp, LayerWeights


class DenseWeights(NamedTuple):
    """`LayerWeights` as the compiler knows them."""

    attention_norm: Tensor
    qkv: Tensor
    qk_norm: Optional[Tensor]  # noqa: UP045
    o: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor


class DenseLora(NamedTuple):
    """The adapters of a layer's groups."""

    qkv: GroupLora
    o: GroupLora
    gate_up: GroupLora
    down: GroupLora


class DenseShape(NamedTuple):
    heads: int
    kv_heads: int
    head_dim: int
    eps: float


class DensePass(NamedTuple):
    """All that a layer knows of a pass besides its input."""

    weights: DenseWeights
    lora: DenseLora
    cos_T1d: Tensor
    sin_T1d: Tensor
    shape: DenseShape
    attend: Any


def run_layer(
    config: ModelConfig,
    i: int,
    layer: LayerWeights,
    cos_T1d: Tensor,
    sin_T1d: Tensor,
    attend: PackedAttention,
    lora: LoraBatch,
    x_Th: Tensor,
) -> Tensor:
    """Layer `i`, differentiable down to its adapters and, but for the first, in x."""
    assert isinstance(layer.mlp, DenseMlp)
    weights = DenseWeights(
        layer.attention_norm, layer.qkv, layer.qk_norm, layer.o, layer.mlp_norm, layer.mlp.gate_up, layer.mlp.down
    )
    groups = (group_lora(lora.segments(f"model.layers.{i}.{name}")) for name in ("qkv", "o", "gate_up", "down"))
    shape = DenseShape(config.heads, config.kv_heads, config.head_dim, config.rms_norm_eps)
    own = DensePass(weights, DenseLora(*groups), cos_T1d, sin_T1d, shape, attend)
    mixed: Tensor = _Attention.apply(x_Th, own, i > 0)  # type: ignore[no-untyped-call]
    out: Tensor = _Mlp.apply(x_Th, mixed, own, i > 0)  # type: ignore[no-untyped-call]
    return out


class _Attention(torch.autograd.Function):
    """From a layer's input to what its attention gives, [T, H*d]. A node apart from `_Mlp`, so that what that one has
    saved is free when this one's backward pass begins."""

    @staticmethod
    def forward(ctx: Any, x_Th: Tensor, own: DensePass, want_dx: bool) -> Tensor:
        weights, lora, cos, sin, shape, attend = own
        ctx.compiled = _one_thread(x_Th, weights)
        function = compiled(_before) if ctx.compiled else _before
        qkv, qk, saved = function(x_Th, weights, lora.qkv, cos, sin, shape)
        both = shape.heads + shape.kv_heads
        mixed, of_attention = attend.forward(qk[:, : shape.heads], qk[:, shape.heads :], qkv[:, both:])
        ctx.own, ctx.want_dx, ctx.count = own, want_dx, len(saved)
        ctx.save_for_backward(x_Th, qkv, qk, *saved, *of_attention)
        out: Tensor = mixed
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None]:
        weights, lora, cos, sin, shape, attend = ctx.own
        x_Th, qkv, qk, *saved = ctx.saved_tensors
        function = compiled(_before_backward) if ctx.compiled else _before_backward
        inputs = qk[:, : shape.heads], qk[:, shape.heads :], qkv[:, shape.heads + shape.kv_heads :]
        dmixed = grads[0].unflatten(1, (shape.heads, -1))
        dq, dk, dv = attend.backward(dmixed, inputs, saved[ctx.count :])
        dx_Th = function(dq, dk, dv, x_Th, qkv, saved[: ctx.count], weights, lora.qkv, cos, sin, shape, ctx.want_dx)
        return dx_Th if ctx.want_dx else None, None, None


class _Mlp(torch.autograd.Function):
    """The rest of the layer."""

    @staticmethod
    def forward(ctx: Any, x_Th: Tensor, mixed: Tensor, own: DensePass, want_dx: bool) -> Tensor:
        ctx.compiled = _one_thread(x_Th, own.weights)
        function = compiled(_after) if ctx.compiled else _after
        out: Tensor
        out, saved = function(x_Th, mixed, own.weights, own.lora, own.shape)
        ctx.own, ctx.want_dx = own, want_dx
        ctx.save_for_backward(mixed, *saved)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        mixed, *saved = ctx.saved_tensors
        function = compiled(_after_backward) if ctx.compiled else _after_backward
        dx_Th, dmixed = function(grads[0], mixed, saved, ctx.own.weights, ctx.own.lora)
        return dx_Th if ctx.want_dx else None, dmixed, None, None


def _one_thread(x_Th: Tensor, weights: DenseWeights) -> bool:
    """Whether no product would be divided; those of the MLP are the largest."""
    return not wide.helps(len(x_Th), *weights.gate_up.shape)


def _before(
    x_Th: Tensor, weights: DenseWeights, lora: GroupLora, cos_T1d: Tensor, sin_T1d: Tensor, shape: DenseShape
) -> Tuple[Tensor, Tensor, List[Tensor]]:  # noqa: UP006
    """Queries, keys and values [T, H + 2K, d]; the first two as the attention wants them; what else is saved."""
    inverse = _inverse_length(x_Th, shape.eps)
    normed = (x_Th * inverse).mul_(weights.attention_norm)
    saved = [inverse, normed]
    qkv = project_forward(normed, weights.qkv, lora, saved).view(x_Th.shape[0], -1, shape.head_dim)
    qk = qkv.narrow(1, 0, shape.heads + shape.kv_heads)
    qk_norm = weights.qk_norm
    if qk_norm is not None:
        inverse = _inverse_length(qk, shape.eps)
        saved.append(inverse)
        qk = (qk * inverse).mul_(qk_norm)
    swapped = qk.roll([shape.head_dim // 2], [-1])
    return qkv, torch.addcmul(qk * cos_T1d, swapped, sin_T1d, out=qk), saved  # without a norm, where they were


def _before_backward(
    dq: Tensor,
    dk: Tensor,
    dv: Tensor,
    x_Th: Tensor,
    qkv: Tensor,
    saved: List[Tensor],  # noqa: UP006
    weights: DenseWeights,
    lora: GroupLora,
    cos_T1d: Tensor,
    sin_T1d: Tensor,
    shape: DenseShape,
    want_dx: bool,
) -> Tensor:
    """d loss / d x, or nothing that means anything unless it is wanted."""
    heads, both = shape.heads, shape.heads + shape.kv_heads
    inverse, normed = saved[0], saved[1]
    adapters = len(lora.starts)
    dqkv = torch.empty_like(qkv)
    dqk = dqkv.narrow(1, 0, both)
    # a rotation is undone by the opposite one, whose sines are the others' with the sign changed
    for turned, own in ((dq, dqk.narrow(1, 0, heads)), (dk, dqk.narrow(1, heads, shape.kv_heads))):
        swapped = turned.roll([shape.head_dim // 2], [-1])
        torch.mul(turned, cos_T1d, out=own).addcmul_(swapped, sin_T1d, value=-1.0)
    qk_norm = weights.qk_norm
    if qk_norm is not None:
        g = dqk * qk_norm
        qk, qk_inverse = qkv.narrow(1, 0, both), saved[2 + adapters]
        share = _share(qk, g, qk_inverse)
        torch.mul(g, qk_inverse, out=dqk)
        dqk.addcmul_(qk, share)
    dqkv.narrow(1, both, shape.kv_heads).copy_(dv)
    inner = saved[2 : 2 + adapters]
    dnormed = project_backward(dqkv.view(x_Th.shape[0], -1), normed, weights.qkv, lora, inner, want_dx)
    if not want_dx:
        return dnormed
    g = dnormed.mul_(weights.attention_norm)
    share = _share(x_Th, g, inverse)
    return g.mul_(inverse).addcmul_(x_Th, share)


def _after(
    x_Th: Tensor, mixed: Tensor, weights: DenseWeights, lora: DenseLora, shape: DenseShape
) -> Tuple[Tensor, List[Tensor]]:  # noqa: UP006
    """The layer's output, from its input and what the attention gave [T, H*d]; and what is saved."""
    saved = torch.jit.annotate(List[Tensor], [])  # noqa: UP006
    middle = project_forward(mixed, weights.o, lora.o, saved).add_(x_Th)
    inverse = _inverse_length(middle, shape.eps)
    normed = (middle * inverse).mul_(weights.mlp_norm)
    gate_up = project_forward(normed, weights.gate_up, lora.gate_up, saved)
    M = gate_up.shape[1] // 2
    active = F.silu(gate_up.narrow(1, 0, M)).mul_(gate_up.narrow(1, M, M))
    out = project_forward(active, weights.down, lora.down, saved).add_(middle)
    saved.extend([middle, inverse, normed, gate_up, active])
    return out, saved


def _after_backward(
    dout_Th: Tensor,
    mixed: Tensor,
    saved: List[Tensor],  # noqa: UP006
    weights: DenseWeights,
    lora: DenseLora,
) -> Tuple[Tensor, Tensor]:  # noqa: UP006
    """d loss / d x and d loss / d mixed."""
    middle, inverse, normed, gate_up, active = saved[-5], saved[-4], saved[-3], saved[-2], saved[-1]
    first, second = len(lora.o.starts), len(lora.o.starts) + len(lora.gate_up.starts)
    M = active.shape[1]
    gate, up = gate_up.narrow(1, 0, M), gate_up.narrow(1, M, M)
    dactive = project_backward(dout_Th, active, weights.down, lora.down, saved[second:-5], True)
    dgate_up = torch.empty_like(gate_up)
    torch.ops.aten.silu(gate, out=dgate_up.narrow(1, M, M)).mul_(dactive)
    torch.ops.aten.silu_backward(dactive.mul_(up), gate, grad_input=dgate_up.narrow(1, 0, M))
    dnormed = project_backward(dgate_up, normed, weights.gate_up, lora.gate_up, saved[first:second], True)
    g = dnormed.mul_(weights.mlp_norm)
    dmiddle = torch.addcmul(dout_Th, g, inverse).addcmul_(middle, _share(middle, g, inverse))
    return dmiddle, project_backward(dmiddle, mixed, weights.o, lora.o, saved[:first], True)


def _inverse_length(x: Tensor, eps: float) -> Tensor:
    """As in `norm.py`."""
    return (x * x).sum(-1, keepdim=True).add_(x.shape[-1] * eps).rsqrt_()


def _share(x: Tensor, g: Tensor, inverse: Tensor) -> Tensor:
    """What the norm's backward pass multiplies x by, see `norm.py`."""
    return (x * g).sum(-1, keepdim=True).mul_(inverse.pow(3)).neg_()
