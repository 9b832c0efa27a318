"""On this machine, with the libraries that are installed: a row's bits do not depend on how many rows there are.

Packing tenants and sequences together rests on this. A failure here means that `rowwise.MIN_ROWS`, or the way products
are formed, must change for this machine's math library.
"""

import pytest
import torch
from torch import Tensor

from hone.engine import rowwise

ROWS = 70
WIDTHS = (2, 3, 4, 8, 12, 20, 32, 96, 172, 384)
SHAPES = [*((o, i) for o in WIDTHS for i in WIDTHS), (199, 48), (2048, 128)]


def moved(x: Tensor, offset: int) -> Tensor:
    """The same numbers further on in memory, as rows in the middle of a batch are. Rows of the models that this
    engine runs start at multiples of four numbers."""
    room = torch.empty(x.numel() + offset)
    out = room[offset:].view(x.shape)
    return out.copy_(x)


def assert_row_by_row(outputs: int, inputs: int) -> None:
    torch.manual_seed(outputs * 1000 + inputs)
    weight = torch.randn(outputs, inputs)
    x, y, start = torch.randn(ROWS, inputs), torch.randn(ROWS, outputs), torch.randn(ROWS, outputs)
    start_back = torch.randn(ROWS, inputs)

    def products(rows: slice, offset: int = 0) -> list[Tensor]:
        xs, ys = moved(x[rows], offset), moved(y[rows], offset)
        added, added_back = moved(start[rows], offset), moved(start_back[rows], offset)
        rowwise.add_linear(added, xs, weight, 0.7)
        rowwise.add_matmul(added_back, ys, weight, 0.7)
        return [rowwise.linear(xs, weight), rowwise.matmul(ys, weight), added, added_back]

    whole = products(slice(0, ROWS))
    for count in (*range(1, 18), 31, 32, 33, 48, 63, 64, 65, 69):
        for got, all_rows in zip(products(slice(0, count)), whole, strict=True):
            assert torch.equal(got, all_rows[:count]), f"{count} rows"
    for first, count in ((1, 1), (5, 3), (9, 4), (33, 37), (64, 6)):
        found = products(slice(first, first + count), offset=4 * first)
        for got, all_rows in zip(found, whole, strict=True):
            assert torch.equal(got, all_rows[first : first + count]), f"{count} rows from row {first}"


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_are_row_by_row(shape: tuple[int, int]) -> None:
    assert_row_by_row(*shape)


@pytest.mark.parametrize("shape", [(1, 8), (1, 48), (1, 384), (8, 1), (48, 1), (384, 1)], ids=str)
def test_products_with_one_column_are_row_by_row(shape: tuple[int, int]) -> None:
    """An adapter of rank 1: its A has one row, its B one column."""
    assert_row_by_row(*shape)


def test_products_are_the_right_ones() -> None:
    x, weight, out = torch.randn(3, 5), torch.randn(4, 5), torch.randn(3, 4)
    wide = x.double() @ weight.double().t()
    torch.testing.assert_close(rowwise.linear(x, weight).double(), wide, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(rowwise.matmul(out, weight), out @ weight)
    for rows in (3, 8):
        x, out = torch.randn(rows, 5), torch.randn(rows, 4)
        wanted = out + 0.5 * x @ weight.t()
        rowwise.add_linear(out, x, weight, 0.5)
        torch.testing.assert_close(out, wanted)
        back = torch.randn(rows, 5)
        wanted = back + 0.5 * out @ weight
        rowwise.add_matmul(back, out, weight, 0.5)
        torch.testing.assert_close(back, wanted)


def test_no_rows_are_fine() -> None:
    weight = torch.randn(4, 5)
    assert rowwise.linear(torch.zeros(0, 5), weight).shape == (0, 4)
    assert rowwise.matmul(torch.zeros(0, 4), weight).shape == (0, 5)
