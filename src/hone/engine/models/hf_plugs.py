"""Where a model of transformers meets the engine: its linear layers, its attention and its experts.

Each looks up the pass that is running for the adapters of the batch and for who attends to whom; autograd keeps what
the backward pass needs.

Legend: T tokens, H heads, K key-value heads, d head size, I inputs, O outputs, E experts, M intermediate size, k
experts per token.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hone.engine.attention import Attend
from hone.engine.attention_kinds import AttentionKind
from hone.engine.lora.batch import LoraBatch
from hone.engine.lora.linear import project
from hone.engine.recompute import computed_again
from hone.errors import UserError

NAME = "hone"
"""What transformers calls our attention and our experts."""


class CannotPack(Exception):
    """The model's attention is none that our own can stand in for; transformers' has to do it."""


@dataclass
class Pass:
    """One forward pass."""

    lora: LoraBatch
    rows: int
    """Of the batch."""
    given: int
    """To the model: with padding."""
    attend: Attend | None = None
    head_dim: int = 0
    """Queries, keys and values are widened to this with zeros; 0: to the widest of the three."""
    recomputed: int = 0
    """How many layers the backward pass computes again."""
    seen: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Key-value heads and width, by layer."""
    used: set[str] = field(default_factory=set)
    """Groups of LoRA matrices that were asked for."""


_running: ContextVar[Pass] = ContextVar("running")


@contextmanager
def running(one: Pass) -> Iterator[None]:
    token = _running.set(one)
    try:
        yield
    finally:
        _running.reset(token)


class ProjectedLinear(nn.Module):
    """A frozen linear layer with the LoRA deltas of every adapter in the batch, if it is one that adapters train."""

    def __init__(self, group: str | None, weight_OI: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self._group = group
        self.weight = nn.Parameter(weight_OI, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.out_features, self.in_features = weight_OI.shape

    def forward(self, x: Tensor) -> Tensor:
        flat_TI = x.reshape(-1, self.in_features)
        if self._group is None:
            out_TO = project(flat_TI, self.weight, [])
        else:
            out_TO = _lora(self._group, len(flat_TI)).project(self._group, flat_TI, self.weight)
        if self.bias is not None:
            out_TO = out_TO + self.bias
        return out_TO.view(*x.shape[:-1], self.out_features)


def _lora(group: str, rows: int) -> LoraBatch:
    one = _running.get()
    one.used.add(group)
    if rows != one.given:
        raise UserError(
            f"the projection {group} is given {rows} rows for {one.given} tokens; adapters can only be trained on "
            "projections of tokens"
        )
    return one.lora


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    is_causal: bool | None = None,
    position_ids: Tensor | None = None,
    use_cache: bool | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """For `AttentionInterface`: queries [1, H, T, d], keys and values [1, K, T, d], to [1, T, H, d]."""
    one = _running.get()
    assert one.attend is not None
    unknown = sorted(name for name, what in more.items() if what is not None)
    layer = getattr(module, "layer_idx", None)
    if unknown or is_causal is False or attention_mask is not None or not isinstance(layer, int):
        raise CannotPack(f"attention with {', '.join(unknown) or 'a mask of its own'}")
    if len(query) != 1 or key.shape[2] != query.shape[2] or key.shape[1] != value.shape[1]:
        raise CannotPack("attention over more than the tokens of the batch")
    width = one.head_dim or max(query.shape[3], value.shape[3])
    one.seen[layer] = (key.shape[1], width)
    q, k, v = (
        F.pad(x[0].transpose(0, 1)[: one.rows], (0, width - x.shape[3])).contiguous() for x in (query, key, value)
    )
    scale = query.shape[3] ** -0.5 if scaling is None else float(scaling)
    if sliding_window is None and softcap is None and s_aux is None:
        if scale != width**-0.5:  # the kernel's own
            q = q * (scale * width**0.5)
        mixed = one.attend(layer, q, k, v)
    else:
        mixed = one.attend(layer, q, k, v, AttentionKind(scale, sliding_window, softcap, s_aux))
    heads = mixed.view(one.rows, -1, width)[..., : value.shape[3]]
    return F.pad(heads, (0, 0, 0, 0, 0, one.given - one.rows))[None], None


def experts(module: Any, hidden_Th: Tensor, chosen_Tk: Tensor, share_Tk: Tensor) -> Tensor:
    """For `ExpertsInterface`, with the weights as `prepare_experts` leaves them."""
    one, group = _running.get(), module.hone_group
    one.used |= {f"{group}.gate_up", f"{group}.down"}
    first, first_bias = (
        (module.gate_up_proj, "gate_up_proj_bias") if module.has_gate else (module.up_proj, "up_proj_bias")
    )
    out_Th = torch.zeros_like(hidden_Th)
    for e in chosen_Tk.unique().tolist():
        if e >= module.num_experts:
            continue  # stands for none
        rows, slots = (chosen_Tk == e).nonzero(as_tuple=True)
        y = project(hidden_Th[rows], first[e], one.lora.expert_segments(f"{group}.gate_up", e, rows))
        if module.has_gate and not module.is_concatenated:
            y = torch.stack(y.chunk(2, dim=-1), dim=-1).flatten(-2)
        if module.has_bias:
            y = y + getattr(module, first_bias)[e]
        y = module._apply_gate(y) if module.has_gate else module.act_fn(y)
        y = project(y, module.down_proj[e], one.lora.expert_segments(f"{group}.down", e, rows))
        if module.has_bias:
            y = y + module.down_proj_bias[e]
        if module.has_post_expert_norm:
            y = module.post_expert_norm(y)
        out_Th = out_Th.index_add(0, rows, (y * share_Tk[rows, slots, None]).to(out_Th.dtype))
    return out_Th


def prepare_experts(module: Any, group: str) -> None:
    """Weights as [E, outputs, inputs], gates before the values that they gate."""
    module.hone_group = group
    for name in ("gate_up_proj" if module.has_gate else "up_proj", "down_proj"):
        weight = getattr(module, name).data
        if module.is_transposed:
            weight = weight.transpose(1, 2)
        if name == "gate_up_proj" and not module.is_concatenated:
            weight = torch.cat([weight[:, 0::2], weight[:, 1::2]], dim=1)
        setattr(module, name, nn.Parameter(weight.contiguous(), requires_grad=False))


def prepare_layers(model: nn.Module) -> int:
    """Let the backward pass compute layers again, as many as the pass says; returns how many can."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    for i, layer in enumerate(layers):
        layer.forward = partial(_layer, i, layer.forward)
    return len(layers)


def _layer(i: int, forward: Any, *arguments: Any, **named: Any) -> Any:
    one = _running.get()
    if i >= one.recomputed or not torch.is_grad_enabled():
        return forward(*arguments, **named)
    given = [*arguments, *named.values()]
    places = [place for place, x in enumerate(given) if isinstance(x, Tensor) and x.requires_grad]

    def again(*inputs: Tensor) -> Any:
        values = list(given)
        for place, x in zip(places, inputs, strict=True):
            values[place] = x
        first = len(arguments)
        with running(one):  # the backward pass has left it, and may be in another thread
            return forward(*values[:first], **dict(zip(named, values[first:], strict=True)))

    return computed_again(again, *(given[place] for place in places))


def register() -> None:
    """Make our attention and our experts known to transformers."""
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(NAME, attention)
    ALL_EXPERTS_FUNCTIONS.register(NAME, experts)
