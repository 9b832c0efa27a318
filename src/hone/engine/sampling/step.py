"""The next token's logits of every running sequence, in one compiled call.

Operation for operation what `Decoder.forward` does with `DecodeAttention` and `project`, so the bits are the same;
only the Python between the operations is gone, which costs more than the arithmetic when few rows are decoded by a
small model. Dense models only. Everything here is plain Python too: where the framework cannot compile it any more,
it runs as it stands.

Legend: T rows, B sequences (the first rows; further ones are padding), L cached positions, N blocks per sequence, h
hidden, H heads, K key-value heads, d head size, V vocabulary.
"""

import warnings
from collections.abc import Callable
from functools import cache
from typing import List, NamedTuple, Optional  # noqa: UP035 - the compiler's names for list and None

import torch
import torch.nn.functional as F
from torch import Tensor


class StepLayer(NamedTuple):
    """Projections as [inputs, outputs]: a view made once instead of for each token."""

    attention_norm: Tensor
    qkv: Tensor
    qk_norm: Optional[Tensor]  # noqa: UP045
    o: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor


class StepLora(NamedTuple):
    """The adapters of one group of projections: rows `starts[i]:stops[i]` use the matrices `i`."""

    starts: List[int]  # noqa: UP006
    stops: List[int]  # noqa: UP006
    a: List[Tensor]  # noqa: UP006
    """[inputs, R]"""
    b: List[Tensor]  # noqa: UP006
    """[R, outputs]"""
    scales: List[float]  # noqa: UP006


class StepRows(NamedTuple):
    """How the rows lie for the adapters' products, each of which needs a few rows at least."""

    gather: Optional[Tensor]  # noqa: UP045
    """Rows to take, some of them twice; None: as they are."""
    scatter: Optional[Tensor]  # noqa: UP045
    """Where each row is found again."""


class StepShape(NamedTuple):
    heads: int
    kv_heads: int
    head_dim: int
    block: int
    min_rows: int
    eps_sum: Tensor
    """The norms' epsilon times the hidden size; a tensor because numbers are made into one each time."""
    head_eps_sum: Tensor
    """And times the head size."""


def _norm(x: Tensor, weight: Tensor, eps_sum: Tensor) -> Tensor:
    inverse = (x * x).sum(-1, keepdim=True).add_(eps_sum).rsqrt_()
    normed: Tensor = (x * inverse).mul_(weight)
    return normed


def _project(x: Tensor, weight: Tensor, lora: StepLora, rows: StepRows) -> Tensor:
    out = x.mm(weight)
    if len(lora.a) == 0:
        return out
    gather, scatter = rows.gather, rows.scatter
    if gather is None or scatter is None:
        _add_lora(out, x, lora)
        return out
    wide = out.index_select(0, gather)
    _add_lora(wide, x.index_select(0, gather), lora)
    return wide.index_select(0, scatter)


def _add_lora(out: Tensor, x: Tensor, lora: StepLora) -> None:
    for i in range(len(lora.a)):
        start, count = lora.starts[i], lora.stops[i] - lora.starts[i]
        if count == x.shape[0]:
            out.addmm_(x.mm(lora.a[i]), lora.b[i], alpha=lora.scales[i])
        else:
            inner = x.narrow(0, start, count).mm(lora.a[i])
            out.narrow(0, start, count).addmm_(inner, lora.b[i], alpha=lora.scales[i])


def _attend(
    qkv_THd: Tensor, entries: Tensor, slots_B: Tensor, blocks: Tensor, first_block: int, mask: Tensor, shape: StepShape
) -> Tensor:
    """[T, H*d]; what stands in the padding means nothing."""
    B, L = mask.shape[0], mask.shape[3]
    heads, kv_heads, d = shape.heads, shape.kv_heads, shape.head_dim
    rows = qkv_THd.narrow(0, 0, B)
    entries.flatten(0, 1).index_copy_(0, slots_B, rows.narrow(1, heads, 2 * kv_heads))
    pages = entries.index_select(0, blocks) if first_block < 0 else entries.narrow(0, first_block, blocks.shape[0])
    kv = pages.view(B, L, 2 * kv_heads, d).transpose(1, 2)
    k, v = kv.narrow(1, 0, kv_heads), kv.narrow(1, kv_heads, kv_heads)
    # few positions of one sequence: the padding rows ask along as further ones, nothing is repeated or cut off; from a
    # thousand on, reading the keys once for all their query heads saves more than that
    if B == 1 and L <= 512:
        q = qkv_THd.narrow(1, 0, heads).transpose(0, 1).unsqueeze(0)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=heads != kv_heads)
        return mixed.transpose(1, 2).reshape(-1, heads * d)
    # the query heads of a key-value head stand where a longer query would: one call, no repeated keys
    group = heads // kv_heads
    q = rows.narrow(1, 0, heads).view(B, kv_heads, group, d)
    if group < shape.min_rows:
        copies = (shape.min_rows + group - 1) // group
        q = torch.cat([q for _ in range(copies)], 2)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    out = mixed.narrow(2, 0, group).reshape(B, heads * d)
    padding = qkv_THd.shape[0] - B
    return torch.cat([out, torch.zeros([padding, heads * d])]) if padding > 0 else out


def dense_step(
    tokens_T: Tensor,
    positions_T: Tensor,
    slots_B: Tensor,
    blocks_BN: Tensor,
    first_block: int,
    entries: List[Tensor],  # noqa: UP006
    embedding: Tensor,
    cos: Tensor,
    sin: Tensor,
    layers: List[StepLayer],  # noqa: UP006
    final_norm: Tensor,
    head: Tensor,
    lora: List[StepLora],  # noqa: UP006
    rows: StepRows,
    shape: StepShape,
) -> Tensor:
    """Logits after each row's token, [T, V], whose keys and values are stored. `lora` holds four groups per layer (qkv,
    o, gate_up, down), then the head's. `first_block` says that all blocks follow that one; -1: they lie anywhere."""
    B, N = blocks_BN.shape
    T = tokens_T.shape[0]
    turned = shape.heads + shape.kv_heads
    positions_B1 = positions_T.narrow(0, 0, B).unsqueeze(1)
    blocks = blocks_BN.flatten()
    hidden_BL = torch.arange(N * shape.block) > positions_B1
    mask = torch.zeros(hidden_BL.shape).masked_fill_(hidden_BL, float("-inf")).unsqueeze(1).unsqueeze(1)
    cos_T1d, sin_T1d = cos.index_select(0, positions_T).unsqueeze(1), sin.index_select(0, positions_T).unsqueeze(1)
    x = embedding.index_select(0, tokens_T)
    for i in range(len(layers)):
        layer = layers[i]
        normed = _norm(x, layer.attention_norm, shape.eps_sum)
        qkv = _project(normed, layer.qkv, lora[4 * i], rows).view(T, -1, shape.head_dim)
        qk = qkv.narrow(1, 0, turned)
        qk_norm = layer.qk_norm
        plain = qk if qk_norm is None else _norm(qk, qk_norm, shape.head_eps_sum)
        torch.addcmul(plain * cos_T1d, plain.roll([shape.head_dim // 2], [-1]), sin_T1d, out=qk)
        mixed = _attend(qkv, entries[i], slots_B, blocks, first_block, mask, shape)
        x = x + _project(mixed, layer.o, lora[4 * i + 1], rows)
        normed = _norm(x, layer.mlp_norm, shape.eps_sum)
        gate, up = _project(normed, layer.gate_up, lora[4 * i + 2], rows).chunk(2, -1)
        x = x + _project(F.silu(gate) * up, layer.down, lora[4 * i + 3], rows)
    return _project(_norm(x, final_norm, shape.eps_sum), head, lora[4 * len(layers)], rows)


@cache
def compiled_dense_step() -> Callable[..., Tensor]:
    """`dense_step` without Python between its operations; as it is where the framework no longer offers that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler says that it will go one day; then Python runs the function
        try:
            step: Callable[..., Tensor] = torch.jit.script(dense_step)
        except Exception:
            return dense_step
    return step
