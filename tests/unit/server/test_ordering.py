from itertools import permutations

import pytest

from hone.server.ordering import SequenceGate


@pytest.mark.parametrize("arrival", list(permutations(range(1, 5))))
def test_any_order_of_arrival_comes_out_in_order(arrival: tuple[int, ...]) -> None:
    gate: SequenceGate[str] = SequenceGate(1)
    out = [item for seq in arrival for item in gate.offer(seq, f"item {seq}") or []]
    assert out == ["item 1", "item 2", "item 3", "item 4"]
    assert not gate


def test_the_missing_are_named_and_given_up() -> None:
    gate: SequenceGate[str] = SequenceGate(1)
    assert gate.offer(1, "a") == ["a"]
    assert gate.offer(3, "c") == gate.offer(6, "f") == []
    assert gate.missing(9) == [2, 4, 5]
    assert gate.missing(2) == [2, 4]
    assert gate.give_up() == ["c", "f"]
    assert not gate
    assert gate.offer(2, "b") is None, "its number has passed"
    assert gate.offer(7, "g") == ["g"]


def test_giving_up_nothing_changes_nothing() -> None:
    gate: SequenceGate[str] = SequenceGate(4)
    assert gate.give_up() == []
    assert gate.next_seq == 4
