import time

import pytest

from hone.server.snapshots import BYTES_PER_SECOND, SnapshotPolicy, Uncovered


@pytest.mark.parametrize(
    ("operations", "payload", "age", "size", "due"),
    [
        (0, 0, 99, 0, False),
        (2, 1, 0, 0, False),
        (3, 1, 0, 0, True),
        (1, 100, 0, 0, True),
        (1, 1, 11, 0, True),
        (1, 1, 9, 0, False),
        (3, 100, 29, 30 * BYTES_PER_SECOND, False),
        (3, 100, 31, 30 * BYTES_PER_SECOND, True),
    ],
)
def test_each_limit_makes_a_snapshot_due_but_large_ones_wait(
    operations: int, payload: int, age: float, size: int, due: bool
) -> None:
    uncovered = Uncovered()
    for _ in range(operations):
        uncovered.add(payload)
    uncovered.since = time.monotonic() - age
    assert SnapshotPolicy(operations=3, bytes=100, seconds=10).due(uncovered, size) is due


def test_age_counts_from_the_first_uncovered_operation() -> None:
    uncovered = Uncovered(since=time.monotonic() - 1000)
    uncovered.add(1)
    assert time.monotonic() - uncovered.since < 1
