"""What is found in the cache is what was kept, under the same weights and after the same tokens."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hone.engine.attention import BLOCK
from hone.engine.sampling.prefixes import PrefixIndex


def tokens(*blocks: int, rest: int = 0) -> np.ndarray:
    """Full blocks of one repeated token each, and a few more tokens."""
    return np.array([b for b in blocks for _ in range(BLOCK)] + [9] * rest, np.int32)


def kept(index: PrefixIndex, weights: str, sequence: np.ndarray) -> list[int]:
    """Blocks that a sequence used and left."""
    blocks = index.pool.take(-(-len(sequence) // BLOCK))
    index.keep(weights, sequence, blocks)
    index.pool.release(blocks)
    return blocks


def test_the_longest_beginning_is_found_in_full_blocks() -> None:
    index = PrefixIndex(20)
    blocks = kept(index, "v", tokens(1, 2, 3, rest=5))
    assert index.find("v", tokens(1, 2, 3, rest=5)) == blocks[:3]
    assert index.find("v", tokens(1, 2, 4)) == blocks[:2]
    assert index.find("v", tokens(1, 2)[:-1]) == blocks[:1]
    assert index.find("v", tokens(2, 3)) == []


def test_other_weights_share_nothing() -> None:
    index = PrefixIndex(20)
    kept(index, "v", tokens(1, 2))
    assert index.find("w", tokens(1, 2)) == []
    assert index.find("", tokens(1, 2)) == []


def test_sequences_that_part_share_what_they_have_in_common() -> None:
    index = PrefixIndex(20)
    first = kept(index, "v", tokens(1, 2, 3))
    shared = index.find("v", tokens(1, 2, 5))
    own = index.pool.take(1)
    index.keep("v", tokens(1, 2, 5), shared + own)
    assert index.find("v", tokens(1, 2, 5)) == first[:2] + own
    assert index.find("v", tokens(1, 2, 3)) == first


def test_what_two_computed_at_once_is_kept_once() -> None:
    index = PrefixIndex(20)
    first, second = index.pool.take(2), index.pool.take(2)
    for blocks in (first, second):
        index.keep("v", tokens(1, 2), blocks)
    index.pool.release(first)
    index.pool.release(second)
    assert index.find("v", tokens(1, 2)) == first


SEQUENCES = st.lists(st.tuples(st.sampled_from(["", "v"]), st.lists(st.integers(1, 3), max_size=5)), max_size=40)


@given(SEQUENCES)
def test_found_blocks_hold_the_tokens_that_were_asked_for(sequences: list[tuple[str, list[int]]]) -> None:
    """Whatever was forgotten in between, for want of room."""
    index, holds = PrefixIndex(9), {}
    for weights, blocks in sequences:
        found = index.find(weights, tokens(*blocks))
        assert [holds[b] for b in found] == [(weights, tuple(blocks[: i + 1])) for i in range(len(found))]
        own = index.pool.take(len(blocks) - len(found))
        for i, block in enumerate(own, len(found)):
            holds[block] = weights, tuple(blocks[: i + 1])
        index.keep(weights, tokens(*blocks), found + own)
        index.pool.release(found + own)
        assert index.pool.free == index.pool.size
