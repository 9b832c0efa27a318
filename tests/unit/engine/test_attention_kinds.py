"""Windows, soft caps and sinks against the formula written out, and in parts against the whole."""

import math

import pytest
import torch
from torch import Tensor

from hone.engine import attention_kinds
from hone.engine.attention import PackedAttention
from hone.engine.attention_kinds import AttentionKind, attend_to

SINKS = torch.tensor([0.3, -1.0, 2.0, 0.0])
KINDS = {
    "plain": AttentionKind(0.4),
    "window": AttentionKind(0.4, window=5),
    "softcap": AttentionKind(0.4, softcap=1.5),
    "sinks": AttentionKind(0.4, sinks_H=SINKS),
    "all": AttentionKind(0.4, 5, 1.5, SINKS),
}


def tensors(length: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    q = torch.randn(length, 4, 8, generator=generator)
    k, v = torch.randn(2, length, 2, 8, generator=generator)
    return q, k, v


def written_out(q: Tensor, k: Tensor, v: Tensor, kind: AttentionKind) -> Tensor:
    out = torch.zeros_like(q)
    for i in range(len(q)):
        for h in range(4):
            first = 0 if kind.window is None else max(0, i - kind.window + 1)
            scores = [float(q[i, h] @ k[j, h // 2]) * kind.scale for j in range(first, i + 1)]
            if kind.softcap is not None:
                scores = [kind.softcap * math.tanh(s / kind.softcap) for s in scores]
            total = sum(math.exp(s) for s in scores)
            if kind.sinks_H is not None:
                total += math.exp(float(kind.sinks_H[h]))
            for j, score in enumerate(scores):
                out[i, h] += math.exp(score) / total * v[first + j, h // 2]
    return out.flatten(1)


@pytest.mark.parametrize("name", KINDS)
def test_it_is_the_formula(name: str) -> None:
    q, k, v = tensors(13)
    torch.testing.assert_close(attend_to(q, k, v, KINDS[name]), written_out(q, k, v, KINDS[name]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_parts_make_the_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = tensors(40)
    whole = attend_to(q, k, v, KINDS[name])
    torch.testing.assert_close(attend_to(q[29:], k, v, KINDS[name]), whole[29:], atol=1e-6, rtol=1e-6)
    monkeypatch.setattr(attention_kinds, "ROWS", 7)
    torch.testing.assert_close(attend_to(q, k, v, KINDS[name]), whole, atol=1e-6, rtol=1e-6)


def test_every_sequence_of_a_pack_attends_to_itself() -> None:
    q, k, v = tensors(20)
    packed = PackedAttention([12, 8])(0, q, k, v, KINDS["all"])
    alone = attend_to(q[12:], k[12:], v[12:], KINDS["all"])
    assert torch.equal(packed[12:], alone)
