"""Products in C have the bits of the framework's, for whatever shape an order of additions is found."""

import pytest
import torch

from hone.engine.native.matrices import CHAINS, QUADS, Packed, order_of, scales_weight

SHAPES = [(4, 128), (8, 128), (8, 384), (12, 128), (16, 48), (24, 128), (96, 128), (256, 200), (130, 384), (64, 1000)]
"""Outputs and inputs: of adapters and of base models."""


@pytest.mark.parametrize("shape", SHAPES)
def test_every_number_of_rows_has_the_bits_of_the_framework(shape: tuple[int, int]) -> None:
    order = order_of(*shape)
    assert order is not None
    weight_OI, x_TI = torch.randn(shape), torch.randn(11, shape[1])
    packed = Packed(weight_OI, order)
    expected_TO = x_TI.mm(weight_OI.t())
    for rows in (1, 2, 3, 4, 5, 7, 11):
        assert torch.equal(packed.product(x_TI[:rows]), expected_TO[:rows])


def test_a_weight_may_be_part_of_a_larger_one() -> None:
    whole, x_TI = torch.randn(40, 300), torch.randn(4, 128)
    part = whole[3:30, 100:228]
    assert torch.equal(Packed(part, CHAINS).product(x_TI), x_TI.mm(part.t()))


@pytest.mark.parametrize("shape", [(128, 8), (256, 24), (768, 16), (1024, 32), (100, 64)])
def test_a_scaled_weight_adds_as_the_framework_does(shape: tuple[int, int]) -> None:
    assert scales_weight(*shape)
    weight_OI, x_TI, out_TO = torch.randn(shape), torch.randn(5, shape[1]), torch.randn(5, shape[0])
    expected = torch.addmm(out_TO, x_TI, weight_OI.t(), alpha=0.37)
    assert torch.equal(out_TO + Packed(weight_OI, CHAINS, 0.37).product(x_TI), expected)


def test_the_orders_are_different_sums() -> None:
    """So that finding the one says something."""
    weight_OI, x_TI = torch.randn(8, 128), torch.randn(4, 128)
    chains, quads = (Packed(weight_OI, order).product(x_TI) for order in (CHAINS, QUADS))
    assert not torch.equal(chains, quads)
    torch.testing.assert_close(chains, quads)


@pytest.mark.parametrize("outputs", [1, 9])
def test_shapes_that_are_summed_otherwise_are_left_to_the_framework(outputs: int) -> None:
    assert order_of(outputs, 128) is None
