"""Which of the framework's attention kernels are called and how; a stand-in computes what they would."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hone.engine.attention import PackedAttention
from hone.engine.backends import attention
from hone.engine.backends.attention import PackedRows

LENGTHS = (5, 17, 17, 1)


def old(q: Tensor, k: Tensor, v: Tensor, *borders: Any, window_size: tuple[int, int]) -> Tensor:
    """As of torch 2.11."""
    return new(q, k, v, *borders, window_size=window_size)


def new(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_q: Tensor,
    cu_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> Tensor:
    """As of torch 2.13."""
    assert window_size == (-1, 0)
    assert torch.equal(cu_q, cu_k)
    assert max_q == max_k == max(LENGTHS)
    assert q.is_contiguous()
    assert enable_gqa or q.shape[1] == k.shape[1]
    parts = []
    for a, b in zip(cu_q.tolist(), cu_q.tolist()[1:], strict=False):
        one = (x[None, a:b].transpose(1, 2) for x in (q, k, v))
        parts.append(F.scaled_dot_product_attention(*one, is_causal=True, enable_gqa=enable_gqa)[0].transpose(0, 1))
    return torch.cat(parts)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("kernel", [old, new, None])
def test_packed_rows(kernel: Any, kv_heads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(sum(LENGTHS), heads, 20) for heads in (4, kv_heads, kv_heads))
    wanted = PackedAttention(LENGTHS)(0, q, k, v)
    monkeypatch.setattr(attention, "_varlen", lambda: (kernel, kernel is new))
    monkeypatch.setattr(attention, "_serves", lambda _: True)
    inputs = [x.clone().requires_grad_() for x in (q, k, v)]
    found = PackedRows(LENGTHS, torch.device("cpu"))(0, *inputs)
    assert torch.allclose(found, wanted, atol=1e-5)
    plain = [x.clone().requires_grad_() for x in (q, k, v)]
    dout = torch.randn_like(wanted)
    PackedAttention(LENGTHS)(0, *plain).backward(dout)
    found.backward(dout)
    for a, b in zip(inputs, plain, strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert torch.allclose(a.grad, b.grad, atol=1e-4)


def test_what_this_torch_offers_is_known() -> None:
    kernel, shares_keys = attention._varlen()
    assert (kernel is None) or shares_keys == (torch.__version__ >= "2.13")
