"""What lasts goes back to the operating system as soon as nobody holds it, wherever it lies."""

import os

import pytest
import torch

from hone.engine import lasting
from hone.engine.lasting import ALIGNED, copied
from hone.memory import resident_bytes

MIB = 1 << 20


def test_vectors_are_zeros_of_their_own() -> None:
    first, second = lasting.zeros(2, 37)
    assert first.shape == second.shape == (37,)
    assert not first.any()
    first += 1
    assert not second.any()
    assert all(x.data_ptr() % (4 * ALIGNED) == 0 for x in (first, second))


def test_a_copy_is_another_one() -> None:
    vector = torch.arange(100.0)
    copy = copied(vector)
    vector += 1
    assert torch.equal(copy, torch.arange(100.0))


@pytest.mark.skipif(not resident_bytes(os.getpid()), reason="needs Linux to look at a process")
def test_every_other_one_leaves_no_holes() -> None:
    held = [copied(torch.ones(25_000)) for _ in range(1000)]
    full = resident_bytes(os.getpid())
    del held[::2]
    assert full - resident_bytes(os.getpid()) > 40 * MIB
    assert len(held) == 500


@pytest.mark.skipif(not resident_bytes(os.getpid()), reason="needs Linux to look at a process")
def test_what_nobody_wrote_to_costs_nothing() -> None:
    before = resident_bytes(os.getpid())
    moments = lasting.zeros(2, 16 * MIB)
    assert resident_bytes(os.getpid()) - before < MIB
    assert len(moments) == 2
