import time

import pytest

from hone.server.snapshots import SnapshotPolicy, Uncovered


@pytest.mark.parametrize(
    ("operations", "payload", "age", "due"),
    [(0, 0, 99, False), (2, 1, 0, False), (3, 1, 0, True), (1, 100, 0, True), (1, 1, 11, True), (1, 1, 9, False)],
)
def test_each_limit_makes_a_snapshot_due(operations: int, payload: int, age: float, due: bool) -> None:
    uncovered = Uncovered()
    for _ in range(operations):
        uncovered.add(payload)
    uncovered.since = time.monotonic() - age
    assert SnapshotPolicy(operations=3, bytes=100, seconds=10).due(uncovered) is due


def test_age_counts_from_the_first_uncovered_operation() -> None:
    uncovered = Uncovered(since=time.monotonic() - 1000)
    uncovered.add(1)
    assert time.monotonic() - uncovered.since < 1
