"""RMSNorm against float64 arithmetic and against autograd through the framework's own."""

import pytest
import torch
import torch.nn.functional as F

from hone.engine.models.norm import fold, rms_norm


@pytest.mark.parametrize("shape", [(1, 48), (7, 48), (64, 128), (3, 6, 20)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
def test_value_and_gradient(shape: tuple[int, ...], scale: float) -> None:
    generator = torch.Generator().manual_seed(5)
    x = (torch.randn(shape, generator=generator) * scale).requires_grad_()
    weight = torch.randn(shape[-1], generator=generator) + 1
    dy = torch.randn(shape, generator=generator)
    wide = x.detach().double().requires_grad_()
    wanted = F.rms_norm(wide, (shape[-1],), weight.double(), 1e-6)
    wanted.backward(dy.double())
    found = rms_norm(x, fold(weight), 1e-6)
    found.backward(dy)
    assert wide.grad is not None
    assert x.grad is not None
    torch.testing.assert_close(found.double(), wanted, rtol=2e-6, atol=1e-6)
    # small gradients are differences of large ones, so the bound is on the tensor
    assert (x.grad.double() - wide.grad).norm() < 2e-6 * wide.grad.norm()


def test_by_hand() -> None:
    x = torch.tensor([[3.0, 4.0]])  # mean of squares 12.5
    expected = torch.tensor([[3.0 * 2.0, 4.0 * 0.5]]) / (12.5 + 0.5) ** 0.5
    torch.testing.assert_close(rms_norm(x, fold(torch.tensor([2.0, 0.5])), 0.5), expected)


def test_one_weight_per_head() -> None:
    x, weight = torch.randn(5, 3, 8), torch.randn(3, 8)
    found = rms_norm(x.requires_grad_(), fold(weight), 1e-6)
    for head in range(3):
        torch.testing.assert_close(found[:, head], F.rms_norm(x[:, head], (8,), weight[head], 1e-6))


def test_the_input_is_left_alone() -> None:
    x = torch.randn(6, 16)
    before = x.clone()
    rms_norm(x, torch.full((16,), 2.0), 1e-6)
    rms_norm(x.requires_grad_(), torch.full((16,), 2.0), 1e-6).sum().backward()
    assert torch.equal(x.detach(), before)


@pytest.mark.parametrize("width", [20, 48, 64, 128, 172])
def test_a_row_does_not_depend_on_the_others(width: int) -> None:
    x, weight, dy = torch.randn(70, width), torch.randn(width), torch.randn(70, width)

    def both(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        part = x[:rows].clone().requires_grad_()
        out = rms_norm(part, fold(weight), 1e-6)
        out.backward(dy[:rows])
        assert part.grad is not None
        return out.detach(), part.grad

    value, gradient = both(70)
    for rows in range(1, 70):
        y, dx = both(rows)
        assert torch.equal(y, value[:rows])
        assert torch.equal(dx, gradient[:rows])
        with torch.no_grad():
            assert torch.equal(rms_norm(x[:rows], fold(weight), 1e-6), value[:rows])
