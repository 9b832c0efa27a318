"""Adapters in a bank against the same adapters one after another, and their gradients against autograd."""

import pytest
import torch

from hone.engine.backends.bank import Bank, BankedLora, SlotWeights, Tenant, bank_layout
from hone.engine.backends.products import FastProducts
from hone.engine.lora.batch import LoraBatch, LoraSpan
from hone.engine.lora.state import AdapterState
from hone.engine.models.load import LoadedModel
from hone.protocol.types import LoraConfig
from tests.unit.engine.material import relative_error, trained_adapter

CPU = torch.device("cpu")
KINDS = (LoraConfig(4, 1), LoraConfig(16, 2), LoraConfig(3, 3, train_mlp=False), LoraConfig(1, 4, train_attn=False))
ROWS = ((0, 5), (7, 8), (8, 20), (20, 26))
"""Two rows of nobody between the first two, two at the end."""


@pytest.fixture
def states(qwen3: LoadedModel) -> list[AdapterState]:
    return [trained_adapter(qwen3.config, lora) for lora in KINDS]


def spans(states: list[AdapterState]) -> LoraBatch:
    return LoraBatch(
        [
            LoraSpan(start, stop, s.weight_views, s.gradient_views(), s.layout.scale)
            for s, (start, stop) in zip(states, ROWS, strict=True)
        ]
    )


def banked(states: list[AdapterState]) -> BankedLora:
    tenants = [Tenant(*rows, s.layout, s.weights, s.gradient_views()) for s, rows in zip(states, ROWS, strict=True)]
    return BankedLora.of(FastProducts(), tenants, 28, CPU, torch.float32)


@pytest.mark.parametrize("group", ["model.layers.0.qkv", "model.layers.1.down", "head"])
def test_values_and_gradients(group: str, qwen3: LoadedModel, states: list[AdapterState]) -> None:
    others = [trained_adapter(qwen3.config, lora) for lora in KINDS]
    shape = states[0].weight_views[group]
    torch.manual_seed(0)
    weight = torch.randn(sum(b.shape[0] for b in shape.b), shape.a.shape[1])
    x, dout = torch.randn(28, weight.shape[1]), torch.randn(28, len(weight))
    found, wanted = [], []
    for out, lora in ((found, banked(states)), (wanted, spans(others))):
        leaf = x.clone().requires_grad_()
        y = lora.project(group, leaf, weight)
        y.backward(dout)
        assert leaf.grad is not None
        out += [y.detach(), leaf.grad]
        part = lora.part(7, 20)
        with torch.no_grad():
            out.append(part.project(group, x[7:20], weight))
    for a, b in zip(found, wanted, strict=True):
        assert relative_error(a, b) < 1e-6
    for ours, theirs in zip(states, others, strict=True):
        assert ours.gradient is not None
        assert theirs.gradient is not None
        assert torch.allclose(ours.gradient, theirs.gradient, rtol=1e-5, atol=1e-4)
        assert bool(ours.gradient.any()) == (group in ours.weight_views)


def test_further_rows_use_the_base_model_alone(states: list[AdapterState]) -> None:
    x, weight = torch.randn(33, 48), torch.randn(199, 48)
    out = banked(states).project("head", x, weight)
    assert torch.allclose(out[26:], x[26:] @ weight.t(), atol=1e-5)


def test_adapters_of_one_kind_fill_a_bank_by_one_copy(qwen3: LoadedModel) -> None:
    first, second = (trained_adapter(qwen3.config, LoraConfig(8, seed)) for seed in (1, 2))
    assert first.layout is second.layout
    layout = bank_layout(frozenset({first.layout}))
    assert layout is first.layout
    bank = Bank(layout, torch.empty(2, layout.size, dtype=torch.bfloat16))
    bank.put(1, first.layout, first.weights)
    assert torch.equal(bank.flat_SN[1], first.weights.bfloat16())


def test_slots_show_matrices_of_the_adapters_own_rank(qwen3: LoadedModel, states: list[AdapterState]) -> None:
    layout = bank_layout(frozenset(s.layout for s in states))
    assert layout.rank == 16
    bank = Bank(layout, torch.full((len(states), layout.size), torch.nan))
    for slot, state in enumerate(states):
        bank.put(slot, state.layout, state.weights)
        shown = SlotWeights(bank, slot, state.layout)
        assert set(shown) == set(state.weight_views)
        for name, own in state.weight_views.items():
            assert torch.equal(shown[name].a, own.a)
            assert all(torch.equal(x, y) for x, y in zip(shown[name].b, own.b, strict=True))
        assert not bank.flat_SN[slot].isnan().any()
