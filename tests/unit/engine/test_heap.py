"""What adapters leave behind is given back, and not one call for each."""

import pytest
import torch

from hone.engine import heap as heap_module
from hone.engine.heap import GIVE_BACK_BYTES, Heap
from hone.memory import resident_bytes


def test_memory_is_given_back_in_large_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(heap_module, "_find_trim", lambda: calls.append)
    heap = Heap()
    for _ in range(7):
        heap.freed(GIVE_BACK_BYTES // 3 + 1)
    assert calls == [0, 0]


def test_an_allocator_that_gives_back_nothing_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap_module, "_find_trim", lambda: None)
    Heap().freed(1 << 40)


@pytest.mark.skipif(heap_module._find_trim() is None, reason="this allocator gives back by itself")
def test_what_lies_between_others_is_given_back() -> None:
    import os

    held = [torch.ones(25_000) for _ in range(1000)]  # below the size that is mapped by itself
    del held[::2]
    before = resident_bytes(os.getpid())
    Heap().freed(GIVE_BACK_BYTES)
    assert before - resident_bytes(os.getpid()) > 20 << 20
    assert len(held) == 500
