"""Which rows of a batch belong to which adapter, before and after tokens choose their experts."""

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from hone.engine.lora.batch import LoraBatch, LoraSpan
from hone.engine.lora.layout import GroupWeights


def weights(number: float) -> dict[str, GroupWeights]:
    experts = torch.arange(3.0)[:, None, None] + 10 * number
    return {
        "dense": GroupWeights(torch.full((2, 4), number), (torch.full((4, 2), number),)),
        "gate_up": GroupWeights(torch.full((2, 4), number), (experts.expand(3, 4, 2),)),
    }


def span(start: int, stop: int, number: float) -> LoraSpan:
    return LoraSpan(start, stop, weights(number), None, number)


def test_segments_are_the_spans_that_train_the_group() -> None:
    first, second = span(0, 3, 1.0), LoraSpan(3, 8, {"other": weights(2.0)["dense"]}, None, 2.0)
    segments = LoraBatch([first, second]).segments("dense")
    assert [(s.start, s.stop, s.scale) for s in segments] == [(0, 3, 1.0)]
    assert segments[0].weights is first.weights["dense"]


def test_an_experts_matrices_are_its_own_where_they_are_not_shared() -> None:
    segments = LoraBatch([span(0, 5, 1.0)]).expert_segments("gate_up", 2, torch.tensor([0, 4]))
    assert float(segments[0].weights.a[0, 0]) == 1.0
    assert float(segments[0].weights.b[0][0, 0]) == 12.0


@given(st.lists(st.integers(0, 6), min_size=1, max_size=6), st.data())
def test_every_chosen_row_keeps_its_adapter(lengths: list[int], data: st.DataObject) -> None:
    starts = [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    owner = [i for i, n in enumerate(lengths) for _ in range(n)]
    batch = LoraBatch([span(a, b, float(i)) for i, (a, b) in enumerate(pairwise(starts))])
    rows = sorted(data.draw(st.sets(st.integers(0, len(owner) - 1)))) if owner else []
    found = {
        rows[place]: int(segment.scale)
        for segment in batch.expert_segments("gate_up", 0, torch.tensor(rows, dtype=torch.int64))
        for place in range(segment.start, segment.stop)
    }
    assert found == {row: owner[row] for row in rows}
