import dataclasses

import pytest

from hone.experiments.data.fingerprint import fingerprint, ordered_fingerprint
from hone.experiments.data.parse import parse
from hone.experiments.kinds.contract import RawRow

RAW = [RawRow(f"f:{i}", {"prompt": f"q{i}", "answer": "a", "verifier": "exact"}) for i in range(10)]
TASKS = [parse(raw, "task") for raw in RAW]


@pytest.mark.parametrize("rows", [RAW, TASKS])
def test_order_and_places_count_only_where_they_should(rows):
    moved = [dataclasses.replace(row, place="g:1") for row in reversed(rows)]
    assert fingerprint(rows) == fingerprint(moved)
    assert ordered_fingerprint(rows) != ordered_fingerprint(moved)
    assert ordered_fingerprint(rows) == ordered_fingerprint([dataclasses.replace(row, place="g:1") for row in rows])


@pytest.mark.parametrize("print_of", [fingerprint, ordered_fingerprint])
def test_any_other_content_is_another_fingerprint(print_of):
    found = {
        print_of(RAW),
        print_of(RAW[1:]),
        print_of([*RAW, RAW[0]]),
        print_of([*RAW, RAW[0], RAW[0]]),
        print_of([]),
        print_of([RawRow("f", {"prompt": "q0", "answer": "b"}), *RAW[1:]]),
        print_of(TASKS),
        print_of([dataclasses.replace(TASKS[0], gold="b"), *TASKS[1:]]),
        print_of([dataclasses.replace(TASKS[0], verifier=None), *TASKS[1:]]),
        print_of([dataclasses.replace(TASKS[0], facts={"x": 1}), *TASKS[1:]]),
    }
    assert len(found) == 10


def test_rows_are_read_once_and_not_held():
    assert fingerprint(row for row in RAW) == fingerprint(RAW)
