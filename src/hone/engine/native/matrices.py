"""Weights as the C products read them, in the order of additions that the math library takes for their shape.

Which order that is, the library does not say; so products of each shape are compared once, bit for bit. A shape whose
bits are not found is not served.

Legend: O outputs, I inputs, T rows.
"""

import weakref
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from hone.engine.attention import DOUBLE, SINGLE
from hone.engine.native.library import Matrix, library
from hone.engine.rowwise import MIN_COLUMNS, MIN_ROWS

PANEL = 16
"""Outputs side by side; as in `tile.h`."""
CHAINS, QUADS = 0, 1
QUAD_OUTPUTS = 8
"""At most."""


def whole_panels(outputs: int) -> int:
    return -(-outputs // PANEL) * PANEL


class Packed:
    """A weight [O, I] and its copy in the order in which it is read; chains may be scaled."""

    def __init__(self, weight_OI: Tensor, order: int, scale: float = 1.0) -> None:
        outputs, inputs = weight_OI.shape
        if order == CHAINS:
            self._copy = torch.empty(whole_panels(outputs) * inputs)
            found = library()
            assert found is not None
            assert weight_OI.stride(1) == 1
            found.hone_pack(weight_OI.data_ptr(), outputs, inputs, weight_OI.stride(0), scale, self._copy.data_ptr())
        else:
            padded_8I = F.pad(weight_OI, (0, 0, 0, QUAD_OUTPUTS - outputs))
            self._copy = padded_8I.view(QUAD_OUTPUTS, inputs // 4, 4).transpose(0, 1).contiguous()
        run = inputs if inputs <= SINGLE else -(-inputs // 2) if inputs <= DOUBLE else SINGLE
        self.matrix = Matrix(inputs, outputs, order, run, self._copy.data_ptr())

    @property
    def bytes(self) -> int:
        return self._copy.nbytes

    def product(self, x_TI: Tensor) -> Tensor:
        """[T, O]; to find out an order, a step does without"""
        found = library()
        assert found is not None
        out = x_TI.new_empty(len(x_TI), whole_panels(self.matrix.outputs))
        found.hone_product(self.matrix, x_TI.data_ptr(), x_TI.stride(0), len(x_TI), out.data_ptr(), out.stride(0))
        return out[:, : self.matrix.outputs]


def packed_base(weight_OI: Tensor) -> Packed:
    """A weight of a base model, packed once for all who hold it; its order is known."""
    kept: weakref.ref[Packed] | None = _packed.get(weight_OI)
    found = None if kept is None else kept()
    if found is None:
        order = order_of(*weight_OI.shape)
        assert order is not None
        found = Packed(weight_OI, order)
        _packed[weight_OI] = weakref.ref(found)
    return found


_packed = WeakTensorKeyDictionary()
"""What is held by nobody goes: a copy that turned out to have other bits, say."""


@cache
def order_of(outputs: int, inputs: int) -> int | None:
    """How the math library adds; None: in neither of the ways that are known here, or it is never asked."""
    if outputs < MIN_COLUMNS:
        return None
    generator = torch.Generator().manual_seed(0)
    x_TI, weight_OI = (torch.randn(n, inputs, generator=generator) for n in (MIN_ROWS, outputs))
    expected = x_TI.mm(weight_OI.t())
    orders = [CHAINS] + [QUADS] * (inputs % 4 == 0 and outputs <= QUAD_OUTPUTS)
    return next((o for o in orders if torch.equal(Packed(weight_OI, o).product(x_TI), expected)), None)


@cache
def scales_weight(outputs: int, inputs: int) -> bool:
    """Whether the library multiplies the weight by `scale` before it computes `out + scale * x W^T`."""
    generator = torch.Generator().manual_seed(1)
    x_TI, weight_OI = (torch.randn(n, inputs, generator=generator) for n in (MIN_ROWS, outputs))
    out_TO = torch.randn(MIN_ROWS, outputs, generator=generator)
    expected = torch.addmm(out_TO, x_TI, weight_OI.t(), alpha=1.3)
    return order_of(outputs, inputs) == CHAINS and torch.equal(
        out_TO + Packed(weight_OI, CHAINS, 1.3).product(x_TI), expected
    )
