"""The projection with LoRA deltas against autograd on merged float64 weights."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from hone.engine.lora.layout import GroupWeights
from hone.engine.lora.linear import Segment, project
from tests.unit.engine.material import relative_error

INPUTS, OUTPUTS = 24, (10, 6, 6)


@dataclass
class Tenant:
    weights: GroupWeights
    gradients: GroupWeights
    scale: float


def tenant(rank: int, seed: int) -> Tenant:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(len(OUTPUTS) * rank, INPUTS, generator=generator)
    b = tuple(torch.randn(o, rank, generator=generator) for o in OUTPUTS)
    zeros = GroupWeights(torch.zeros_like(a), tuple(torch.zeros_like(x) for x in b))
    return Tenant(GroupWeights(a, b), zeros, 0.5 / rank)


def segment(t: Tenant, start: int, stop: int) -> Segment:
    return Segment(start, stop, t.weights, t.gradients, t.scale)


def merged(weight: Tensor, a: Tensor, b: list[Tensor], scale: float) -> Tensor:
    rank = b[0].shape[1]
    return weight + scale * torch.cat([b_i @ a[i * rank : (i + 1) * rank] for i, b_i in enumerate(b)])


@pytest.mark.parametrize("cuts", [(0, 9), (0, 1), (3, 4), (0, 3), (2, 9)], ids=str)
def test_value_and_gradients_are_those_of_the_merged_weight(cuts: tuple[int, int]) -> None:
    start, stop = cuts
    torch.manual_seed(0)
    t, x, weight = tenant(4, 1), torch.randn(9, INPUTS), torch.randn(sum(OUTPUTS), INPUTS)
    dout = torch.randn(9, sum(OUTPUTS))

    wide_x = x.double().requires_grad_()
    a = t.weights.a.double().requires_grad_()
    b = [x.double().requires_grad_() for x in t.weights.b]
    full = merged(weight.double(), a, b, t.scale)
    wanted = torch.cat([wide_x[:start] @ weight.double().t(), wide_x[start:stop] @ full.t()])
    wanted = torch.cat([wanted, wide_x[stop:] @ weight.double().t()])
    wanted.backward(dout.double())

    x.requires_grad_()
    found = project(x, weight, [segment(t, start, stop)])
    found.backward(dout)
    assert relative_error(found.detach(), wanted.detach()) < 1e-6
    for ours, theirs in zip((x, t.gradients.a, *t.gradients.b), (wide_x, a, *b), strict=True):
        ours_grad = ours.grad if ours is x else ours
        assert ours_grad is not None
        assert theirs.grad is not None
        assert relative_error(ours_grad, theirs.grad) < 1e-5


def test_without_gradients_the_same_values() -> None:
    t, x, weight = tenant(4, 1), torch.randn(9, INPUTS), torch.randn(sum(OUTPUTS), INPUTS)
    segments = [segment(t, 2, 7)]
    with torch.no_grad():
        plain = project(x, weight, segments)
    assert torch.equal(plain, project(x.clone().requires_grad_(), weight, segments).detach())


def test_gradients_add_up_over_calls() -> None:
    t, x, weight = tenant(4, 1), torch.randn(9, INPUTS).requires_grad_(), torch.randn(sum(OUTPUTS), INPUTS)
    dout = torch.randn(9, sum(OUTPUTS))
    project(x, weight, [segment(t, 0, 9)]).backward(dout)
    once = t.gradients.a.clone()
    project(x, weight, [segment(t, 0, 9)]).backward(dout)
    torch.testing.assert_close(t.gradients.a, 2 * once, rtol=1e-6, atol=1e-6)


def test_a_segment_that_only_reads_gets_no_gradient_but_passes_it_on() -> None:
    t, x, weight = tenant(4, 1), torch.randn(9, INPUTS), torch.randn(sum(OUTPUTS), INPUTS)
    dout = torch.randn(9, sum(OUTPUTS))
    reading = Segment(0, 9, t.weights, None, t.scale)
    x1, x2 = x.clone().requires_grad_(), x.clone().requires_grad_()
    project(x1, weight, [reading]).backward(dout)
    assert not t.gradients.a.any()
    project(x2, weight, [segment(t, 0, 9)]).backward(dout)
    assert x1.grad is not None
    assert x2.grad is not None
    assert torch.equal(x1.grad, x2.grad)


@pytest.mark.parametrize("first", [1, 2, 3, 4, 17, 40])
@pytest.mark.parametrize("before", [0, 1, 2, 3, 5, 31])
def test_tenants_side_by_side_get_bit_for_bit_what_they_get_alone(first: int, before: int) -> None:
    torch.manual_seed(first)
    weight = torch.randn(sum(OUTPUTS), INPUTS)
    rows, pad = torch.randn(first + 23, INPUTS), torch.randn(before, INPUTS)
    dout = torch.randn(len(rows), sum(OUTPUTS))

    alone = [tenant(4, 1), tenant(3, 2)]
    parts = [(slice(0, first), alone[0]), (slice(first, None), alone[1])]
    outs: list[Tensor] = []
    dxs: list[Tensor] = []
    for part, t in parts:
        x = rows[part].clone().requires_grad_()
        out = project(x, weight, [segment(t, 0, len(x))])
        out.backward(dout[part])
        assert x.grad is not None
        outs.append(out.detach())
        dxs.append(x.grad)

    mixed = [tenant(4, 1), tenant(3, 2)]
    x = torch.cat([pad, rows]).requires_grad_()
    middle, end = before + first, before + len(rows)
    out = project(x, weight, [segment(mixed[0], before, middle), segment(mixed[1], middle, end)])
    out.backward(torch.cat([torch.randn(before, sum(OUTPUTS)), dout]))
    assert x.grad is not None
    assert torch.equal(out[before:middle], outs[0])
    assert torch.equal(out[middle:], outs[1])
    assert torch.equal(x.grad[before:middle], dxs[0])
    assert torch.equal(x.grad[middle:], dxs[1])
    for a, m in zip(alone, mixed, strict=True):
        assert torch.equal(a.gradients.a, m.gradients.a)
        for b_alone, b_mixed in zip(a.gradients.b, m.gradients.b, strict=True):
            assert torch.equal(b_alone, b_mixed)
