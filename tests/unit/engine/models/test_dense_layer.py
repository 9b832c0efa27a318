"""The dense layer that is written out: against autograd, compiled or not, and short sequences beside long ones."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from hone.engine.attention import PackedAttention
from hone.engine.compiled import compiled
from hone.engine.models import dense_layer
from hone.engine.models.decoder import Decoder
from hone.engine.models.load import LoadedModel
from hone.protocol.types import LoraConfig
from tests.unit.engine.material import layer_gradients, relative_error, trained_adapter

FUNCTIONS = ("_before", "_before_backward", "_after", "_after_backward")
FAMILIES = ("llama_rope", "qwen3", "qwen3_long", "llama_one_kv_head")
LENGTHS = (5, 16, 16, 33, 200, 230, 1, 2)
RANKS = (1, 8, 33)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_framework_compiles_it(name: str) -> None:
    assert isinstance(compiled(getattr(dense_layer, name)), torch.jit.ScriptFunction)


def through_autograd(qkv_TXd: tuple[Tensor, ...], lengths: tuple[int, ...]) -> Tensor:
    """Attention by the formula."""
    parts = []
    for start, stop in pairwise(torch.tensor([0, *lengths]).cumsum(0).tolist()):
        q, k, v = (x[start:stop].transpose(0, 1) for x in qkv_TXd)
        k, v = (x.repeat_interleave(len(q) // len(x), 0) for x in (k, v))
        scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
        hidden = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1)
        parts.append((scores.masked_fill(hidden, float("-inf")).softmax(-1) @ v).transpose(0, 1).flatten(1))
    return torch.cat(parts)


@pytest.mark.parametrize("lengths", [(1,), (7,), (16, 16), (3, 250)])
def test_attention_has_the_gradient_of_its_formula(lengths: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(sum(lengths), n, 16, generator=generator, requires_grad=True) for n in (4, 2, 2)]
    want = through_autograd(tuple(inputs), lengths)
    dout = torch.randn(want.shape, generator=generator)
    want.backward(dout)
    attend, given = PackedAttention(lengths), tuple(x.detach() for x in inputs)
    mixed, saved = attend.forward(*given)
    torch.testing.assert_close(mixed, want.detach(), rtol=1e-5, atol=1e-5)
    for found, x in zip(attend.backward(dout.unflatten(1, (4, 16)), given, saved), inputs, strict=True):
        torch.testing.assert_close(found, x.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("flags", [{}, {"train_attn": False}, {"train_mlp": False}])
@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_what_autograd_makes_of_the_layer(
    family: str, flags: dict[str, bool], models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = models[family].decoder
    assert isinstance(decoder, Decoder)
    monkeypatch.setattr(decoder, "written_in_c", None)
    states = [trained_adapter(decoder.config, LoraConfig(rank, 1, **flags)) for rank in RANKS]
    found, by_autograd = (
        layer_gradients(decoder, states, [0, 3, 6, 8], LENGTHS, autograd) for autograd in (False, True)
    )
    assert torch.equal(found[0], by_autograd[0])
    for one, other in zip(found[1:], by_autograd[1:], strict=True):
        assert relative_error(one, other) < 2e-6
    monkeypatch.setattr(dense_layer, "compiled", lambda function: function)
    for one, other in zip(layer_gradients(decoder, states, [0, 3, 6, 8], LENGTHS, False), found, strict=True):
        assert torch.equal(one, other)
