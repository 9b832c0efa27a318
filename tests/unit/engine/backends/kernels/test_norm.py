"""The norm kernel against the one for CPUs, value and gradient."""

import pytest
import torch

from hone.engine.models.norm import fold
from hone.engine.models.norm import rms_norm as plain
from tests.unit.engine.material import relative_error

pytest.importorskip("triton")
from hone.engine.backends.kernels.norm import rms_norm

TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 5e-3}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(9, 48), (5, 6, 20)], ids=str)
def test_value_and_gradient(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
    torch.manual_seed(0)
    wide = torch.randn(shape[0], 2 * shape[-1] * (shape[1] if len(shape) == 3 else 1)).to(device, dtype)
    x = wide[:, : wide.shape[1] // 2].view(shape).detach()  # rows with other numbers between them
    folded, dy = fold(torch.randn(shape[1:])).to(device), torch.randn(shape).to(device, dtype)
    exact = x.double().requires_grad_()
    plain(exact, folded.double(), 1e-5).backward(dy.double())
    x = x.requires_grad_()
    y = rms_norm(x, folded, 1e-5)
    y.backward(dy)
    assert x.grad is not None
    assert exact.grad is not None
    assert y.dtype == x.grad.dtype == dtype
    assert relative_error(y.detach(), plain(exact, folded.double(), 1e-5).detach()) < TOLERANCE[dtype]
    assert relative_error(x.grad, exact.grad) < TOLERANCE[dtype]
    assert torch.equal(rms_norm(x.detach()[2:3], folded, 1e-5), y.detach()[2:3])
