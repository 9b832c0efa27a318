"""Causal attention other than plain softmax: windows, soft caps, sinks. Slower than the fused kernel, and always right.

One sequence at a time, so that no result depends on who else is in the batch.

Legend: R new rows, S keys, H heads, K key-value heads, G query heads per key-value head, d head size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

ROWS = 512
"""Rows whose scores are held at once."""


@dataclass(frozen=True, eq=False)
class AttentionKind:
    scale: float
    window: int | None = None
    """How many positions a token looks at, itself included; None: all before it."""
    softcap: float | None = None
    """Scores s become cap tanh(s / cap)."""
    sinks_H: Tensor | None = None
    """A score per head that takes its share of the softmax and gives nothing."""


def attend_to(q_RHd: Tensor, k_SKd: Tensor, v_SKd: Tensor, kind: AttentionKind) -> Tensor:
    """Attention of the last R of S positions to those before them, [R, H*d]."""
    first = len(k_SKd) - len(q_RHd)
    parts = []
    for start in range(0, len(q_RHd), ROWS):
        stop = min(start + ROWS, len(q_RHd))
        low = 0 if kind.window is None else max(0, first + start - kind.window + 1)
        keys = slice(low, first + stop)
        parts.append(_rows(q_RHd[start:stop], k_SKd[keys], v_SKd[keys], kind))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _rows(q_RHd: Tensor, k_SKd: Tensor, v_SKd: Tensor, kind: AttentionKind) -> Tensor:
    rows, heads, d = q_RHd.shape
    kv_heads = k_SKd.shape[1]
    q_KGRd = q_RHd.reshape(rows, kv_heads, -1, d).permute(1, 2, 0, 3)
    scores_KGRS = q_KGRd @ k_SKd.permute(1, 2, 0)[:, None] * kind.scale
    if kind.softcap is not None:
        scores_KGRS = torch.tanh(scores_KGRS / kind.softcap) * kind.softcap
    keys = torch.arange(len(k_SKd), device=k_SKd.device)
    ago_RS = keys[len(k_SKd) - rows :, None] - keys
    hidden_RS = ago_RS < 0
    if kind.window is not None:
        hidden_RS |= ago_RS >= kind.window
    scores_KGRS = scores_KGRS.masked_fill(hidden_RS, float("-inf"))
    if kind.sinks_H is not None:
        sinks_KGR1 = kind.sinks_H.view(kv_heads, -1, 1, 1).expand(-1, -1, rows, 1)
        shares_KGRS = torch.cat([scores_KGRS, sinks_KGR1], dim=-1).softmax(dim=-1)[..., :-1]
    else:
        shares_KGRS = scores_KGRS.softmax(dim=-1)
    mixed_KGRd = shares_KGRS @ v_SKd.transpose(0, 1)[:, None]
    return mixed_KGRd.permute(2, 0, 1, 3).reshape(rows, heads * d)
