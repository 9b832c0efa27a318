"""Products of groups against one product after another, and against autograd."""

import pytest
import torch
from torch import Tensor

from hone.engine.backends import grouped
from hone.engine.backends.grouped import grouped_outer, grouped_product, make_groups
from tests.unit.engine.material import relative_error

TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 5e-3}
STOPS = [(7,), (0, 3, 3, 9), (4, 5, 6, 6)]


@pytest.fixture(params=["kernel", "looped", "two at a time"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "looped":
        monkeypatch.setattr(grouped, "_kernel", None)
    if request.param == "two at a time":
        monkeypatch.setattr(grouped, "MAX_GROUPS", 2)


def parts(x: Tensor, stops: tuple[int, ...]) -> list[Tensor]:
    return [x[a:b] for a, b in zip((0, *stops), stops, strict=False)]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("stops", STOPS, ids=str)
def test_value_and_gradients(stops: tuple[int, ...], dtype: torch.dtype, way: None) -> None:
    torch.manual_seed(0)
    x, w = torch.randn(stops[-1], 16).to(dtype), torch.randn(len(stops), 24, 16).to(dtype)
    dout, groups = torch.randn(stops[-1], 24).to(dtype), make_groups(stops, torch.device("cpu"))

    wide_x, wide_w = x.double().requires_grad_(), w.double().requires_grad_()
    wanted = torch.cat([part @ wide_w[g].t() for g, part in enumerate(parts(wide_x, stops))])
    wanted.backward(dout.double())
    assert wide_x.grad is not None
    assert wide_w.grad is not None
    for found, exact in (
        (grouped_product(x, w, groups), wanted.detach()),
        (grouped_product(dout, w.transpose(1, 2), groups), wide_x.grad),
        (grouped_outer(dout, x, groups), wide_w.grad),
    ):
        assert relative_error(found, exact) < TOLERANCE[dtype]


def test_gradients_of_a_single_group_are_not_rounded() -> None:
    x, y = torch.randn(9, 16).bfloat16(), torch.randn(9, 8).bfloat16()
    found = grouped_outer(x, y, make_groups((9,), torch.device("cpu")))
    assert found.dtype == torch.float32
    assert relative_error(found[0], x.double().t() @ y.double()) < 1e-6


def test_what_the_kernel_cannot_read_is_known() -> None:
    whole, odd = torch.zeros(4, 32, dtype=torch.bfloat16), torch.zeros(4, 12, dtype=torch.bfloat16)
    for x, serves in ((whole, True), (whole[:, 8:], True), (whole[:, 4:], False), (odd, False)):
        assert grouped._aligned(x) == grouped._aligned(x.t()) == serves
    assert not grouped._aligned(whole[:, ::2])
