"""Cache blocks: nobody's twice, and free again exactly when the last user is gone."""

from hypothesis import given
from hypothesis import strategies as st

from hone.engine.sampling.blocks import BlockPool


def pool_of(blocks: int) -> BlockPool:
    return BlockPool(blocks, lambda block: None)


def test_block_zero_is_never_handed_out() -> None:
    pool = pool_of(5)
    assert (pool.size, pool.free) == (4, 4)
    assert sorted(pool.take(4)) == [1, 2, 3, 4]
    assert pool.free == 0


def test_a_shared_block_stays_until_its_last_user_leaves() -> None:
    pool = pool_of(3)
    blocks = pool.take(2)
    pool.share(blocks)
    pool.share(blocks[:1])
    pool.release(blocks)
    assert pool.free == 0
    pool.release(blocks)
    assert pool.free == 1
    pool.release(blocks[:1])
    assert pool.free == 2


@given(st.lists(st.tuples(st.sampled_from(["take", "share", "release"]), st.integers(0, 100)), max_size=60))
def test_blocks_in_use_are_disjoint_and_none_is_lost(moves: list[tuple[str, int]]) -> None:
    pool = pool_of(12)
    held: list[list[int]] = []
    for move, number in moves:
        if move == "take" and number % 4 <= pool.free:
            taken = pool.take(number % 4)
            assert not {b for own in held for b in own} & set(taken)
            assert len(set(taken)) == len(taken)
            held.append(taken)
        elif move == "share" and held:
            held.append(list(held[number % len(held)]))
            pool.share(held[-1])
        elif move == "release" and held:
            pool.release(held.pop(number % len(held)))
        assert pool.free == pool.size - len({b for own in held for b in own})
    for own in held:
        pool.release(own)
    assert sorted(pool.take(pool.size)) == list(range(1, 12))


def test_kept_blocks_stay_until_the_room_is_needed_the_longest_idle_go_first() -> None:
    forgotten: list[int] = []
    pool = BlockPool(6, forgotten.append)
    first, second = pool.take(2), pool.take(2)
    for block in (*first, *second):
        pool.keep(block)
    pool.release(first)
    pool.release(second)
    assert pool.free == 5
    assert pool.take(1) == [5]
    assert not forgotten
    pool.share(first[:1])  # used again: not to be forgotten
    assert pool.free == 3
    assert sorted(pool.take(2)) == sorted(forgotten)
    assert forgotten == [first[1], second[1]], "the end of a sequence is of no use without its beginning"
    pool.release(first[:1])
    assert pool.free == 2
