"""Cutting operations into pieces, and laying pieces side by side."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hone.engine.batch import Piece, cut, pack
from hone.engine.contract import ForwardBackward
from hone.protocol.types import Datum
from tests.unit.engine.material import random_datum


def datum(length: int, width: int = 0, first: int = 0) -> Datum:
    shape = (length, width) if width else (length,)
    tokens = np.arange(first, first + length, dtype=np.int32)
    return Datum(tokens, {"target_tokens": np.full(shape, first), "weights": np.ones(shape, np.float32)})


def operation(data: list[Datum], adapter: str = "a", forward_only: bool = False) -> ForwardBackward:
    return ForwardBackward(adapter, tuple(data), "cross_entropy", {}, forward_only)


@given(st.lists(st.tuples(st.integers(1, 40), st.sampled_from([0, 0, 0, 2, 3])), min_size=1, max_size=30))
def test_pieces_keep_budget_order_and_every_datum(shapes: list[tuple[int, int]]) -> None:
    data = [datum(length, width, first=100 * i) for i, (length, width) in enumerate(shapes)]
    pieces = cut(operation(data), 32)
    places = [place for piece in pieces for place in sorted(piece.places)]
    assert places == list(range(len(data)))  # each once, and pieces in the order of the data
    for piece in pieces:
        assert piece.tokens <= 32 or len(piece.data) == 1
        assert [len(d.tokens) for d in piece.data] == sorted(len(d.tokens) for d in piece.data)
        assert all(piece.data[i] is data[place] for i, place in enumerate(piece.places))
        assert len({d.loss_inputs["target_tokens"].shape[1:] for d in piece.data}) == 1


@given(st.lists(st.integers(1, 40), min_size=2, max_size=20))
def test_pieces_are_as_large_as_the_budget_allows(lengths: list[int]) -> None:
    pieces = cut(operation([datum(n) for n in lengths]), 32)
    for piece, following in pairwise(pieces):
        assert piece.tokens + lengths[min(following.places)] > 32


def test_equal_lengths_keep_the_order_of_the_data() -> None:
    (piece,) = cut(operation([datum(5), datum(3), datum(5), datum(3)]), 100)
    assert piece.places == (1, 3, 0, 2)


def test_pieces_say_what_the_operation_asked() -> None:
    (piece,) = cut(operation([datum(5)], adapter="mine", forward_only=True), 100)
    assert (piece.adapter, piece.loss_fn, piece.backward) == ("mine", "cross_entropy", False)
    assert cut(operation([datum(5)]), 100)[0].backward


def pieces_of(*lengths: list[int]) -> list[Piece]:
    rng = np.random.default_rng(0)
    return [
        piece
        for i, own in enumerate(lengths)
        for piece in cut(operation([random_datum(rng, n) for n in own], adapter=str(i)), 1000)
    ]


def test_packed_rows_are_the_data_end_to_end() -> None:
    pieces = pieces_of([3, 1], [4], [2, 2])
    batch = pack(pieces)
    data = [d for piece in pieces for d in piece.data]
    assert batch.lengths == (1, 3, 4, 2, 2)
    assert batch.tokens_T.tolist() == np.concatenate([d.tokens for d in data]).tolist()
    assert batch.positions_T.tolist() == [0, 0, 1, 2, 0, 1, 2, 3, 0, 1, 0, 1]
    assert [(p.start, p.stop) for p in batch.pieces] == [(0, 4), (4, 8), (8, 12)]
    for packed in batch.pieces:
        wanted = np.concatenate([d.loss_inputs["target_tokens"] for d in packed.piece.data])
        assert packed.targets.tolist() == wanted.tolist()
        weights = np.concatenate([d.loss_inputs["weights"] for d in packed.piece.data])
        np.testing.assert_array_equal(packed.inputs["weights"].numpy(), weights)


def test_several_targets_stay_side_by_side() -> None:
    (piece,) = cut(operation([datum(3, 4, first=7), datum(2, 4, first=9)]), 100)
    assert pack([piece]).pieces[0].targets.tolist() == [[9] * 4] * 2 + [[7] * 4] * 3
