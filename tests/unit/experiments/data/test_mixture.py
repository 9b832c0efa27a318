import numpy as np
import pytest

from hone.experiments.data.mixture import mixed, schedule, shuffled

KEYS = np.random.default_rng(7).integers(0, 2**63, size=400).astype(np.uint64)


@pytest.mark.parametrize("weights", [[1, 1], [0.7, 0.2, 0.1], [5, 1, 1, 1], [1, 99]])
def test_shares_hold_within_one_percent_over_ten_thousand_draws_and_everywhere_on_the_way(weights):
    for seed in (None, 0, 1, 2):
        turns = schedule(weights, 10_000, seed)
        shares = np.array(weights) / sum(weights)
        counts = np.stack([np.cumsum(turns == part) for part in range(len(weights))], axis=1)
        assert np.abs(counts[-1] / 10_000 - shares).max() < 0.01
        draws = np.arange(1, 10_001)[:, None]
        assert np.abs(counts - draws * shares).max() <= len(weights)


def test_a_schedule_is_the_seeds():
    assert (schedule([2, 1], 100, 3) == schedule([2, 1], 100, 3)).all()
    assert any((schedule([2, 1], 100, 3) != schedule([2, 1], 100, seed)).any() for seed in range(4))


def test_an_order_depends_on_contents_and_seed_and_not_on_places():
    order = shuffled(KEYS, 5)
    assert sorted(order) == list(range(400))
    moved = np.random.default_rng(0).permutation(400)
    assert (KEYS[moved][shuffled(KEYS[moved], 5)] == KEYS[order]).all()
    assert (shuffled(KEYS, 6) != order).any()
    assert (shuffled(KEYS, 5, epoch=1) != order).any()


def test_orders_look_random():
    """Where a row lands is even over seeds: chi squared over 20 bins, 19 degrees of freedom; 43.8 is its 0.1 % tail."""
    landed = np.array([np.flatnonzero(shuffled(KEYS, seed) == 17)[0] for seed in range(2000)])
    counts = np.bincount(landed // 20, minlength=20)
    assert ((counts - 100) ** 2 / 100).sum() < 43.8


def test_a_source_repeats_no_row_before_all_were_given_and_then_in_another_order():
    parts = [np.arange(0, 300), np.arange(300, 320)]
    order = mixed(parts, KEYS, [0.5, 0.5], 200, seed=1)
    small = [row for row in order if row >= 300]
    assert len(small) in (99, 100, 101)
    epochs = [small[start : start + 20] for start in range(0, 80, 20)]
    assert all(sorted(epoch) == list(range(300, 320)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    large = [row for row in order if row < 300]
    assert len(set(large)) == len(large)
    assert large != sorted(large)


def test_without_shuffling_sources_keep_their_order():
    order = mixed([np.arange(0, 6), np.arange(6, 9)], KEYS, [2, 1], 9, seed=1, shuffle=False)
    assert [row for row in order if row < 6] == list(range(6))
    assert [row for row in order if row >= 6] == [6, 7, 8]
    assert (order == mixed([np.arange(0, 6), np.arange(6, 9)], KEYS, [2, 1], 9, seed=2, shuffle=False)).all()
