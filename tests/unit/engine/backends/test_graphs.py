"""Buckets and buffers, with a recording that replays a function into the memory it was recorded with."""

from collections.abc import Callable

import torch
from torch import Tensor

from hone.engine.attention import BLOCK
from hone.engine.backends.graphs import Bucket, RecordedSteps, StepBuffers, StepInputs, bucket_of

CPU = torch.device("cpu")


def test_buckets_hold_what_they_are_for() -> None:
    seen = set()
    for rows in range(1, 101):
        for keys in (1, 512, 513, 3000, 4096):
            bucket = bucket_of(rows, keys, True, 100, 4096)
            assert rows <= bucket.rows <= 100
            assert keys <= bucket.keys <= 4096
            seen.add(bucket)
    assert len({b.rows for b in seen}) == 5 + 6
    assert {b.keys for b in seen} == {512, 1024, 4096}


class Recorder:
    """Keeps the first result's memory, as a graph does."""

    def __init__(self) -> None:
        self.recorded = 0

    def __call__(self, function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        self.recorded += 1
        out = function().clone()
        return lambda: out.copy_(function())


def inputs(tokens: list[int], positions: list[int], slots: list[int]) -> StepInputs:
    pages = [[10 * row + n for n in range(1, 6)] for row in range(len(tokens))]
    return StepInputs(tokens, positions, pages, slots)


def test_a_step_is_recorded_once_for_a_bucket_and_reads_its_inputs_anew() -> None:
    buffers, recorder = StepBuffers(8, 128, 4, CPU), Recorder()
    steps = RecordedSteps(lambda b: buffers.tokens_B[: b.rows] + buffers.positions_B[: b.rows], recorder)
    for tokens, positions in (([5, 6, 7], [0, 9, 20]), ([1, 2, 3, 4], [4, 3, 2, 1]), ([9, 8, 7], [1, 1, 1])):
        bucket = bucket_of(len(tokens), max(positions) + 1, False, 8, 128)
        given = inputs(tokens, positions, [0] * len(tokens))
        buffers.lay_out(given, bucket, [1.0] * len(tokens))
        buffers.fill(given, bucket)
        wanted = [t + p for t, p in zip(tokens, positions, strict=True)]
        assert steps(bucket).tolist() == wanted + [0] * (bucket.rows - len(tokens))
    assert recorder.recorded == 1
    steps.forget()
    steps(bucket)
    assert recorder.recorded == 2


def test_rows_find_their_pages_and_adapters_and_padding_touches_nobodys() -> None:
    buffers, bucket = StepBuffers(8, 128, 5, CPU), Bucket(4, 128, True)
    buffers.tables_BN.fill_(99)
    given = inputs([1, 2, 3], [0, 17, 40], [0, 2, 2])
    buffers.lay_out(given, bucket, [1.0, 8.0, 8.0])
    buffers.fill(given, bucket)
    assert buffers.tables_BN[:4, :5].tolist() == [*given.pages, [0] * 5]
    assert buffers.cache_slots_B[:4].tolist() == [BLOCK, 12 * BLOCK + 1, 23 * BLOCK + 8, 0]
    assert buffers.places_B[:4].tolist() == buffers.positions_B[:4].tolist() == [0, 17, 40, 0]
    assert buffers.stops_S.tolist() == buffers.stops() == [1, 1, 4, 4, 4]
    assert buffers.scale_B1[:4, 0].tolist() == [1.0, 8.0, 8.0, 1.0]
