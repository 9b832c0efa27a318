"""The matrix products of a GPU's forward pass, in two kinds: fast, and with rows that keep their bits in any company.

Legend: T rows, G groups of rows, K inputs, N outputs.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from hone.engine.backends.grouped import Groups, grouped_product


class Products(Protocol):
    def linear(self, x_TK: Tensor, w_NK: Tensor) -> Tensor:
        """x @ w.T, [T, N]"""
        ...

    def grouped(self, x_TK: Tensor, w_GNK: Tensor, groups: Groups) -> Tensor:
        """Each group's x @ w.T, [T, N]"""
        ...


class FastProducts:
    """The framework's."""

    def linear(self, x_TK: Tensor, w_NK: Tensor) -> Tensor:
        return F.linear(x_TK, w_NK)

    def grouped(self, x_TK: Tensor, w_GNK: Tensor, groups: Groups) -> Tensor:
        return grouped_product(x_TK, w_GNK, groups)


class InvariantProducts:
    """Our own kernel, whose tiles are the same at any size."""

    def linear(self, x_TK: Tensor, w_NK: Tensor) -> Tensor:
        stops_1 = torch.full((1,), len(x_TK), dtype=torch.int32, device=x_TK.device)
        return self._run(x_TK, w_NK[None], stops_1)

    def grouped(self, x_TK: Tensor, w_GNK: Tensor, groups: Groups) -> Tensor:
        return self._run(x_TK, w_GNK, groups.stops_G)

    def _run(self, x_TK: Tensor, w_GNK: Tensor, stops_G: Tensor) -> Tensor:
        from hone.engine.backends.kernels import matmul  # on use: there may be no Triton

        return matmul.grouped_product(x_TK, w_GNK, stops_G)
