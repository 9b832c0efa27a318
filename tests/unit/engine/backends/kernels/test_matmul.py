"""The product of groups against plain products, and rows that do not depend on others."""

import pytest
import torch

from tests.unit.engine.material import relative_error

pytest.importorskip("triton")
from hone.engine.backends.kernels.matmul import grouped_product

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 5e-3}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("stops", [(7,), (0, 5, 5, 90), (64, 64, 65, 130)], ids=str)
def test_every_group_has_its_own_matrix(stops: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
    torch.manual_seed(0)
    inputs, outputs = 72, 40
    x = torch.randn(stops[-1], 2 * inputs).to(device, dtype)[:, inputs:]
    w = torch.randn(len(stops), inputs, outputs).to(device, dtype).transpose(1, 2)
    found = grouped_product(x, w, torch.tensor(stops, dtype=torch.int32, device=device))
    parts = [x[a:b].double() @ w[g].double().t() for g, (a, b) in enumerate(zip((0, *stops), stops, strict=False))]
    assert relative_error(found, torch.cat(parts)) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_rows_do_not_depend_on_others(dtype: torch.dtype, device: torch.device) -> None:
    torch.manual_seed(0)
    x, w = torch.randn(150, 200).to(device, dtype), torch.randn(2, 130, 200).to(device, dtype)

    def stops(*values: int) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int32, device=device)

    whole = grouped_product(x, w[1:], stops(150))
    for start, stop in ((0, 1), (3, 4), (63, 66), (90, 150)):
        assert torch.equal(grouped_product(x[start:stop], w[1:], stops(stop - start)), whole[start:stop])
        assert torch.equal(grouped_product(x[:stop], w, stops(start, stop))[start:], whole[start:stop])
