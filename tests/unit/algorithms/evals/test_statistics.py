"""Against exhaustive counts, tables, and samples whose truth is known."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

from hone.algorithms.evals import statistics
from hone.algorithms.evals.statistics import (
    Estimate,
    bootstrap_interval,
    clustered_interval,
    paired_comparison,
    pass_at_k,
    share_interval,
)
from hone.errors import UserError


@pytest.mark.parametrize("correct", range(6))
@pytest.mark.parametrize("k", range(1, 6))
def test_pass_at_k_is_the_share_of_choices_with_a_right_answer(correct: int, k: int) -> None:
    answers = [True] * correct + [False] * (5 - correct)
    choices = list(itertools.combinations(answers, k))
    assert pass_at_k(5, correct, k) == pytest.approx(sum(map(any, choices)) / len(choices))


def test_pass_at_k_needs_k_answers() -> None:
    with pytest.raises(UserError, match="pass@4 needs 4 answers or more to each item; there are 3"):
        pass_at_k(3, 1, 4)


def test_without_clusters_the_interval_is_students() -> None:
    values = [0.2, 0.4, 0.9, 1.0, 0.0]
    estimate = clustered_interval(values, range(5))
    error = float(np.std(values, ddof=1)) / math.sqrt(5)
    assert estimate.mean == pytest.approx(0.5)
    assert estimate.half_width == pytest.approx(2.776445 * error, rel=1e-6)


def test_answers_to_one_item_count_once() -> None:
    """Every answer given four times says no more than given once."""
    values = [0.0, 1.0, 1.0, 0.0, 1.0, 1.0]
    once = clustered_interval(values, range(6))
    four_times = clustered_interval(values * 4, list(range(6)) * 4)
    assert four_times.half_width == pytest.approx(once.half_width)
    assert clustered_interval(values * 4, range(24)).half_width < 0.6 * once.half_width


@pytest.mark.parametrize("interval", [clustered_interval, bootstrap_interval, share_interval])
def test_intervals_hold_the_truth_as_often_as_they_say(interval: object) -> None:
    """300 samples of 40 items with 3 answers each, correlated within the item."""
    draw, held = np.random.default_rng(1), 0
    for _ in range(300):
        difficulty = draw.uniform(0, 1, 40)
        values = (draw.uniform(size=(40, 3)) < difficulty[:, None]).astype(float)
        clusters = np.repeat(np.arange(40), 3).tolist()
        options = {"draws": 500} if interval is bootstrap_interval else {}
        estimate = interval(values.ravel().tolist(), clusters, **options)  # type: ignore[operator]
        held += estimate.low <= 0.5 <= estimate.high
    assert 0.90 <= held / 300 <= 0.99


@pytest.mark.parametrize("interval", [clustered_interval, bootstrap_interval])
def test_one_item_alone_says_nothing_about_others(interval: Callable[..., Estimate]) -> None:
    assert math.isinf(interval([1.0, 0.0], ["same", "same"]).high)


def test_a_bootstrap_in_pieces_is_one_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    values, clusters = np.random.default_rng(4).uniform(size=60).tolist(), [number // 3 for number in range(60)]
    whole = bootstrap_interval(values, clusters, draws=100)
    monkeypatch.setattr(statistics, "AT_ONCE", 20 * 7)
    assert bootstrap_interval(values, clusters, draws=100) == whole


def test_a_bootstrap_of_rare_successes_stays_within_their_range() -> None:
    values = [1.0] + [0.0] * 9
    assert clustered_interval(values, range(10)).low < 0
    estimate = bootstrap_interval(values, range(10))
    # The number of ones in a draw is binomial (10, 0.1): 3 or fewer with probability 0.987, 4 or fewer with 0.998.
    assert (estimate.low, estimate.high) == (0.0, pytest.approx(0.3))


@pytest.mark.parametrize("interval", [clustered_interval, bootstrap_interval])
def test_shares_without_spread_are_bounded_exactly(interval: Callable[..., Estimate]) -> None:
    values, clusters = [0.0] * 10, [number // 2 for number in range(10)]
    none = share_interval(values, clusters, interval=interval)
    exact = scipy.stats.binomtest(0, 5).proportion_ci(0.95, "exact")
    assert (none.mean, none.low, none.high) == (0, exact.low, pytest.approx(exact.high))
    every = share_interval([1.0] * 10, clusters, interval=interval)
    assert (every.low, every.high) == (pytest.approx(1 - exact.high), 1)
    some = share_interval([1.0] + [0.0] * 9, range(10), interval=interval)
    free = interval([1.0] + [0.0] * 9, range(10))
    assert (some.low, some.high) == (0.0, free.high)
    assert math.isinf(share_interval([0.0, 0.0], ["same", "same"], interval=interval).high)
    with pytest.raises(UserError, match="shares lie between 0 and 1"):
        share_interval([0.5, 1.5], range(2), interval=interval)


def test_pairs_show_what_two_separate_means_hide() -> None:
    draw = np.random.default_rng(2)
    difficulty = draw.normal(0, 1, 60)
    a = {item: float(difficulty[item]) for item in range(60)}
    b = {item: float(difficulty[item] + 0.1 + 0.1 * draw.normal()) for item in range(60)}
    comparison = paired_comparison(a, b)
    assert comparison.difference.low > 0
    assert comparison.p_value < 0.01
    assert clustered_interval(list(b.values()), range(60)).low < np.mean(list(a.values()))


def test_the_exact_test_counts_all_sign_patterns() -> None:
    comparison = paired_comparison({1: 0.0, 2: 0.0, 3: 0.0}, {1: 1.0, 2: 1.0, 3: 1.0, 4: 1.0})
    assert comparison.p_value == pytest.approx(2 / 8)
    assert (comparison.shared_items, comparison.only_a, comparison.only_b) == (3, 0, 1)


def test_items_of_a_cluster_differ_together() -> None:
    """Four items of two passages are two facts, not four."""
    a, b = dict.fromkeys(range(4), 0.0), dict.fromkeys(range(4), 1.0)
    together = paired_comparison(a, b, {0: "x", 1: "x", 2: "y", 3: "y"})
    assert together.p_value == pytest.approx(2 / 4)
    assert together.difference.items == 2
    assert paired_comparison(a, b).p_value == pytest.approx(2 / 16)


def test_equal_models_are_called_different_as_rarely_as_asked() -> None:
    draw = np.random.default_rng(3)
    p_values = [
        paired_comparison(
            dict(enumerate(draw.normal(size=20))), dict(enumerate(draw.normal(size=20))), draws=500
        ).p_value
        for _ in range(200)
    ]
    assert 0.01 <= np.mean(np.array(p_values) < 0.05) <= 0.10


def test_nothing_in_common_is_an_error() -> None:
    with pytest.raises(UserError, match="no item in common"):
        paired_comparison({1: 1.0}, {2: 1.0})


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="count a failure as 0"):
        clustered_interval([1.0, float("nan")], [1, 2])
