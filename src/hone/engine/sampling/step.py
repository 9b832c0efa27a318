"""The next token's logits of every running sequence, in one compiled call.

Operation for operation what `Decoder.forward` does with `DecodeAttention` and `project`, so the bits are the same;
only the Python between the operations is gone, see `compiled.py`. Dense models only.

Legend: T rows, B sequences (the first rows; further ones are padding), L cached positions, N blocks per sequence, h
hidden, H heads, K key-value heads, d head size, M intermediate size, V vocabulary.
"""

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
    """The adapters of all groups of projections, one after another: entries `first[g]:first[g + 1]` are those of group
    `g`, and rows `starts[e]:stops[e]` use the matrices `e`."""

    first: List[int]  # noqa: UP006
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


def _project(x: Tensor, weight: Tensor, lora: StepLora, group: int, rows: StepRows) -> Tensor:
    out = x.mm(weight)
    first, stop = lora.first[group], lora.first[group + 1]
    if first == stop:
        return out
    gather, scatter = rows.gather, rows.scatter
    if gather is None or scatter is None:
        if lora.stops[first] - lora.starts[first] == x.shape[0]:  # one adapter for all rows
            return out.addmm_(x.mm(lora.a[first]), lora.b[first], alpha=lora.scales[first])
        _add_lora(out, x, lora, first, stop)
        return out
    wide = out.index_select(0, gather)
    _add_lora(wide, x.index_select(0, gather), lora, first, stop)
    return wide.index_select(0, scatter)


def _add_lora(out: Tensor, x: Tensor, lora: StepLora, first: int, stop: int) -> None:
    for e in range(first, stop):
        start, count = lora.starts[e], lora.stops[e] - lora.starts[e]
        inner = x.narrow(0, start, count).mm(lora.a[e])
        out.narrow(0, start, count).addmm_(inner, lora.b[e], alpha=lora.scales[e])


def _mask(positions_B: Tensor, length: int) -> Tensor:
    """[B, 1, 1, L]"""
    hidden_BL = torch.arange(length) > positions_B.unsqueeze(1)
    return torch.zeros(hidden_BL.shape).masked_fill_(hidden_BL, float("-inf")).unsqueeze(1).unsqueeze(1)


def _attend(qkv_THd: Tensor, rows: Tensor, kv: Tensor, mask: Tensor, shape: StepShape) -> Tensor:
    """[T, H*d], of keys and values [B, 2K, L, d]; what stands in the padding means nothing."""
    B, L = mask.shape[0], mask.shape[3]
    heads, kv_heads, d = shape.heads, shape.kv_heads, shape.head_dim
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
    entries: List[Tensor],  # noqa: UP006
    embedding: Tensor,
    cos: Tensor,
    sin: Tensor,
    layers: List[StepLayer],  # noqa: UP006
    final_norm: Tensor,
    head: Tensor,
    lora: StepLora,
    rows: StepRows,
    shape: StepShape,
) -> Tensor:
    """Logits after each row's token, [T, V], whose keys and values are stored in `entries`, per layer [slots, 2K, d].
    `lora` holds four groups per layer (qkv, o, gate_up, down), then the head's."""
    B, N = blocks_BN.shape
    T, L = tokens_T.shape[0], N * shape.block
    heads, kv_heads, d = shape.heads, shape.kv_heads, shape.head_dim
    blocks = blocks_BN.flatten()
    mask = _mask(positions_T.narrow(0, 0, B), L)
    cos_T1d, sin_T1d = cos.index_select(0, positions_T).unsqueeze(1), sin.index_select(0, positions_T).unsqueeze(1)
    x = embedding.index_select(0, tokens_T)
    for i in range(len(layers)):
        layer = layers[i]
        normed = _norm(x, layer.attention_norm, shape.eps_sum)
        qkv = _project(normed, layer.qkv, lora, 4 * i, rows).view(T, -1, d)
        qk = qkv.narrow(1, 0, heads + kv_heads)
        qk_norm = layer.qk_norm
        plain = qk if qk_norm is None else _norm(qk, qk_norm, shape.head_eps_sum)
        torch.addcmul(plain * cos_T1d, plain.roll([d // 2], [-1]), sin_T1d, out=qk)
        own = qkv.narrow(0, 0, B)
        entries[i].index_copy_(0, slots_B, own.narrow(1, heads, 2 * kv_heads))
        pages = entries[i].view(-1, shape.block, 2 * kv_heads, d).index_select(0, blocks)
        kv = pages.view(B, L, 2 * kv_heads, d).transpose(1, 2)
        mixed = _attend(qkv, own, kv, mask, shape)
        x = x + _project(mixed, layer.o, lora, 4 * i + 1, rows)
        normed = _norm(x, layer.mlp_norm, shape.eps_sum)
        gate_up = _project(normed, layer.gate_up, lora, 4 * i + 2, rows)
        M = gate_up.shape[1] // 2
        active = F.silu(gate_up.narrow(1, 0, M)) * gate_up.narrow(1, M, M)
        x = x + _project(active, layer.down, lora, 4 * i + 3, rows)
    return _project(_norm(x, final_norm, shape.eps_sum), head, lora, 4 * len(layers), rows)
