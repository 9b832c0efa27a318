"""Gradients that are given flow back as the framework's own do, without the library that those would load."""

import subprocess
import sys

import torch

from hone.engine import given


def test_what_follows_is_what_the_framework_says() -> None:
    x, y = (torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    grads = [torch.randn(3, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)]

    def outs() -> list[torch.Tensor]:
        return [x * y, (x + 2 * y).sum(0)]

    wanted = torch.autograd.grad(outs(), [x, y], grads)
    found = outs()
    with torch.no_grad():
        given.backward(found, grads)
    for leaf, gradient in zip((x, y), wanted, strict=True):
        assert leaf.grad is not None
        torch.testing.assert_close(leaf.grad, gradient)


def test_nothing_is_loaded_for_it() -> None:
    program = (
        "import sys, torch\nfrom hone.engine import given\nx = torch.ones(2, requires_grad=True)\n"
        "given.backward([x * 2], [torch.ones(2)])\nassert x.grad is not None\nassert 'sympy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
