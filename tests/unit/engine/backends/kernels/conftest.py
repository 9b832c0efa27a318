"""The kernels run on a GPU, or on a CPU with Triton's interpreter."""

import importlib.util
from typing import Any

import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter leaves products of tiles to NumPy's library, which on some processors adds a row of a tile in an
    order that depends on where in the tile it stands. A GPU does not; rounded sums in float64 do not either."""
    if importlib.util.find_spec("triton") is None:
        return
    from triton.runtime import interpreter

    def dot(self: object, a: Any, b: Any, d: Any, *_: object) -> Any:
        product = np.matmul(a.data, b.data, dtype=np.float64).astype(d.data.dtype)
        return interpreter.TensorHandle(product + d.data, d.dtype.scalar)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", dot)
