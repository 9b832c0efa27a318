"""Against closed forms, and against crossed samples whose truth is known."""

import math

import numpy as np
import pytest
from scipy import stats

from hone.algorithms.evals.statistics import clustered_interval, paired_comparison
from hone.experiments.records import Measurement, TaskResult
from hone.experiments.statistics import (
    POWER,
    Evidence,
    Scores,
    Spread,
    difference,
    difference_of_best,
    direction,
    group_mean,
    plan,
    scores,
)
from tests.support.experiment_records import World, measurement


def table(values: object, *, weights: object = None, clusters: list[str] | None = None, trained: bool = True) -> Scores:
    values_ST = np.asarray(values, dtype=float)
    tasks = tuple(f"t{number}" for number in range(values_ST.shape[1]))
    weights_T = np.ones(len(tasks)) if weights is None else np.asarray(weights, dtype=float)
    return Scores(values_ST, weights_T, tasks, tuple(clusters) if clusters else tasks, trained)


def test_one_run_has_the_interval_of_its_tasks() -> None:
    row = np.random.default_rng(0).normal(0.4, 1, 30)
    ours, known = group_mean(table([row])), clustered_interval(row.tolist(), range(30))
    assert (ours.estimate().low, ours.estimate().high) == pytest.approx((known.low, known.high))
    assert not ours.knows_runs
    assert ours.knows_tasks


def test_clusters_of_one_size_give_the_cluster_robust_interval() -> None:
    row = np.random.default_rng(1).normal(0, 1, 40)
    clusters = [f"c{number // 4}" for number in range(40)]
    ours, known = group_mean(table([row], clusters=clusters)), clustered_interval(row.tolist(), clusters)
    assert ours.estimate().half_width == pytest.approx(known.half_width)


def test_runs_without_scores_by_task_have_students_interval() -> None:
    totals = [Measurement(step=1, metrics={"nll": value}) for value in (0.4, 0.5, 0.9)]
    found = scores(totals, "nll")
    assert found is not None
    ours = group_mean(found)
    error = float(np.std([0.4, 0.5, 0.9], ddof=1)) / math.sqrt(3)
    assert ours.estimate().half_width == pytest.approx(4.302653 * error, rel=1e-6)
    assert (ours.tasks, ours.knows_tasks, ours.knows_runs) == (0, False, True)


def test_variances_are_those_of_the_crossed_analysis_of_variance() -> None:
    """Mean squares of a two-way table without repetition: Scheffe 1959, section 7.4."""
    y = np.random.default_rng(2).normal(0, 1, (4, 25)) + np.random.default_rng(3).normal(0, 1, (4, 1))
    runs, tasks = y.shape
    rows, columns = y.mean(axis=1), y.mean(axis=0)
    ms_rows = tasks * rows.var(ddof=1)
    ms_columns = runs * columns.var(ddof=1)
    ms_error = ((y - rows[:, None] - columns + y.mean()) ** 2).sum() / ((runs - 1) * (tasks - 1))
    spread = group_mean(table(y)).spread
    assert spread.runs == pytest.approx(ms_rows / y.size)
    assert spread.tasks == pytest.approx(ms_columns / y.size)
    assert spread.both == pytest.approx(ms_error / y.size)
    assert (spread.runs_df, spread.tasks_df) == pytest.approx((3, 24))
    assert spread.variance == pytest.approx((ms_rows + max(ms_columns - ms_error, 0)) / y.size)


def test_a_difference_of_two_single_runs_is_the_paired_one() -> None:
    draw = np.random.default_rng(4)
    a, b = draw.normal(0, 1, 50), draw.normal(0.3, 1, 50)
    ours = difference(table([b]), table([a]))
    known = paired_comparison(dict(enumerate(a)), dict(enumerate(b))).difference
    assert (ours.value, ours.estimate().half_width) == pytest.approx((known.mean, known.half_width))
    assert ours.p_value() == pytest.approx(stats.ttest_rel(b, a).pvalue, rel=1e-3)


def test_runs_of_two_groups_are_compared_as_welch_does() -> None:
    """With next to no difference between tasks, what is left is Welch's test of the runs' means."""
    draw = np.random.default_rng(5)
    a, b = draw.normal(0, 1, (3, 1)), draw.normal(1, 3, (5, 1))
    ours = difference(table(np.tile(b, 40) + draw.normal(0, 1e-3, 40)), table(np.tile(a, 40)))
    known = stats.ttest_ind(b[:, 0], a[:, 0], equal_var=False)
    assert ours.spread.runs_df == pytest.approx(known.df)
    assert ours.p_value() == pytest.approx(known.pvalue, rel=0.02)


def test_less_is_better_turns_the_sign_and_nothing_else() -> None:
    a, b = table([[0.9, 0.8, 0.7, 0.3]]), table([[0.5, 0.2, 0.4, 0.1]])
    more, less = difference(a, b, "max"), difference(a, b, "min")
    assert more.value == pytest.approx(0.375)
    assert (less.value, less.spread) == (-more.value, more.spread)
    assert (direction("max"), direction("min")) == (1, -1)


def test_heavy_tasks_count_for_more() -> None:
    """A row of three tokens is worth three rows of one token that belong together."""
    weighted = group_mean(table([[1.0, 4.0, 2.0]], weights=[3, 2, 2]))
    single = group_mean(table([[1.0, 1.0, 1.0, 4.0, 4.0, 2.0, 2.0]], clusters=["a", "a", "a", "b", "b", "c", "c"]))
    assert weighted.value == pytest.approx((3 + 8 + 4) / 7)
    assert weighted.spread.tasks == pytest.approx(single.spread.tasks)
    assert weighted.spread.tasks_df == pytest.approx(49 / (9 + 4 + 4) - 1)


def test_weights_come_from_the_record_and_make_the_metric() -> None:
    rows = [TaskResult(task="a", values=[1.0], weight=10), TaskResult(task="b", values=[0.4], weight=30)]
    found = scores([Measurement(step=1, metrics={"nll": 0.55}, tasks={"nll": rows})], "nll")
    assert found is not None
    assert group_mean(found).value == pytest.approx(0.55)


def test_answers_of_a_task_are_one_number_that_of_the_metric_if_it_gave_one() -> None:
    rows = [TaskResult(task="a", values=[0.0, 1.0]), TaskResult(task="b", values=[0.0, 1.0], value=1.0)]
    found = scores([Measurement(step=1, metrics={"pass@2": 1.0}, tasks={"pass@2": rows})], "pass@2")
    assert found is not None
    assert found.values_ST.tolist() == [[0.5, 1.0]]


def test_a_row_that_stands_twice_in_the_data_counts_twice() -> None:
    rows = [TaskResult(task="a", values=[1.0]), TaskResult(task="b", values=[0.0]), TaskResult(task="a", values=[0.0])]
    found = scores([Measurement(step=1, metrics={"m": 1 / 3}, tasks={"m": rows})], "m")
    assert found is not None
    assert (found.tasks, found.weights_T.tolist()) == (("a", "b"), [2, 1])
    assert group_mean(found).value == pytest.approx(1 / 3)


def test_only_tasks_that_all_runs_share_count() -> None:
    long, short = measurement([0.0, 1.0, 1.0, 1.0]), measurement([0.0, 1.0, 1.0])
    found = scores([long, short], "mean_reward")
    assert found is not None
    assert found.tasks == ("t0", "t1", "t2")
    assert scores([long, short], "accuracy") is None
    assert scores([], "mean_reward") is None


@pytest.mark.parametrize("runs", [1, 2, 3, 5])
@pytest.mark.parametrize("luck", [0.0, 0.02, 0.2])
def test_intervals_of_differences_hold_the_truth_as_often_as_they_say(runs: int, luck: float) -> None:
    """Training luck that is nothing, as large as the tasks' part, and much larger. With one run a side the truth is
    what these two runs differ by: the rest is not known."""
    draw, held, times = np.random.default_rng(runs), 0, 500
    for _ in range(times):
        world = World(draw, tasks=60, run_luck=0 if runs == 1 else luck)
        found = difference(table(world.scores(0.6, runs)), table(world.scores(0.5, runs)))
        estimate = found.estimate()
        held += estimate.low <= 0.1 <= estimate.high
        assert found.knows_runs == (runs > 1)
    assert 0.93 <= held / times <= 1.0


@pytest.mark.parametrize("runs", [3, 5])
def test_intervals_of_means_hold_the_truth_as_often_as_they_say(runs: int) -> None:
    draw, held, times = np.random.default_rng(runs), 0, 500
    for _ in range(times):
        estimate = group_mean(table(World(draw, tasks=60, run_luck=0.03).scores(0.5, runs))).estimate()
        held += estimate.low <= 0.5 <= estimate.high
    assert 0.93 <= held / times <= 0.99


def test_more_runs_and_tasks_are_not_wasted() -> None:
    """Near the width that knowing all variances would give."""
    draw = np.random.default_rng(0)
    world = World(draw, tasks=400, run_luck=0.02)
    width = difference(table(world.scores(0.5, 20)), table(world.scores(0.5, 20))).estimate().half_width
    known = math.sqrt(2 * 0.02**2 / 20 + 2 * 0.05**2 / 400 + 2 * 0.1**2 / (20 * 400))
    assert width == pytest.approx(1.96 * known, rel=0.25)


def test_the_luck_of_one_run_is_taken_from_the_other_side() -> None:
    draw = np.random.default_rng(6)
    three, one = table(draw.normal(0, 1, (3, 40))), table(draw.normal(0, 1, (1, 40)))
    found = difference(three, one)
    alone = group_mean(three).spread.runs
    assert found.spread.runs == pytest.approx(alone * 3 * (1 / 3 + 1))
    assert found.spread.runs_df == 2
    assert found.knows_runs


def test_a_model_that_was_not_trained_has_no_luck_of_runs() -> None:
    draw = np.random.default_rng(7)
    trained, base = table(draw.normal(0, 1, (3, 40))), table(draw.normal(0, 1, (3, 40)), trained=False)
    assert difference(trained, base).spread.runs == pytest.approx(group_mean(trained).spread.runs)
    assert difference(table(draw.normal(0, 1, (1, 40))), base).knows_runs is False
    assert group_mean(base).spread.runs == 0


def test_solved_tasks_do_not_make_an_interval_of_no_width() -> None:
    """All of 60 right: the exact interval of a proportion (Clopper and Pearson 1934) begins at 0.025 ** (1 / 60)."""
    estimate = group_mean(table(np.ones((1, 60)))).estimate()
    assert estimate.mean == pytest.approx(1)
    assert estimate.low == pytest.approx(0.025 ** (1 / 60), abs=0.02)
    same = difference(table(np.ones((3, 60))), table(np.ones((3, 60))))
    assert same.estimate().low < 0 < same.estimate().high
    assert same.p_value() == 1


def test_groups_measured_on_other_tasks_are_compared_unpaired() -> None:
    draw = np.random.default_rng(8)
    a, b = draw.normal(0, 1, 30), draw.normal(0.5, 2, 50)
    one = table([a])
    other = Scores(b[None], np.ones(50), tuple(f"u{n}" for n in range(50)), tuple(f"u{n}" for n in range(50)))
    found = difference(other, one)
    known = stats.ttest_ind(b, a, equal_var=False)
    assert not found.paired
    assert found.p_value() == pytest.approx(known.pvalue, rel=1e-3)


def test_the_p_value_is_where_the_interval_ends() -> None:
    found = Evidence(0.3, Spread(0.004, 4.0, 0.003, 99.0, 0.001), 100, (3, 3))
    p = found.p_value()
    assert found.estimate(1 - p * 0.999).low < 0.0001
    assert abs(found.estimate(1 - p).low) < 1e-3
    assert found.p_value(0.3) == 1


def test_nothing_known_is_an_interval_without_ends() -> None:
    one = group_mean(Scores(np.array([[0.4]]), np.ones(1), (), ("all",)))
    assert math.isinf(one.estimate().high)
    assert one.p_value() == 1


def test_the_best_of_many_is_not_better_for_having_been_chosen() -> None:
    """Six groups without any difference, against one: without a correction, the best of them would seem better in
    every few of such experiments."""
    draw, corrected, naive, times = np.random.default_rng(9), 0, 0, 200
    for _ in range(times):
        world = World(draw, tasks=60, run_luck=0.0)
        than = table(world.scores(0.5, 1))
        pairs = [[difference(table(world.scores(0.5, 1)), than)] for _ in range(6)]
        best = difference_of_best(pairs)
        corrected += best.low > 0
        naive += max(row[0].estimate().low for row in pairs) > 0
        assert best.candidates == 6
        assert (best.low > 0 or best.high < 0) == (best.p_value < 0.05)
    assert corrected / times <= 0.05
    assert naive / times > 0.08


def test_the_difference_of_the_best_holds_the_true_one() -> None:
    """Two close candidates on each side: the best by luck is often not the best in truth."""
    draw, held, times = np.random.default_rng(10), 0, 200
    for _ in range(times):
        world = World(draw, tasks=60)
        better = [table(world.scores(truth, 3)) for truth in (0.60, 0.61)]
        than = [table(world.scores(truth, 3)) for truth in (0.50, 0.52)]
        best = difference_of_best([[difference(one, other) for other in than] for one in better])
        held += best.low <= 0.09 <= best.high
    assert held / times >= 0.95


def test_a_long_list_of_others_needs_no_correction_for_being_better_than_all() -> None:
    """One group a little better than eight that are alike: support of the false claim that it is better by more than
    that stays as rare as it is against one."""
    draw, false, times = np.random.default_rng(12), 0, 300
    for _ in range(times):
        world = World(draw, tasks=60)
        one = table(world.scores(0.52, 3))
        best = difference_of_best([[difference(one, table(world.scores(0.5, 3))) for _ in range(8)]], 0.02)
        false += best.low > 0.02
        assert best.candidates == 8
    assert false / times <= 0.025


def test_one_pair_needs_no_correction() -> None:
    one = Evidence(0.3, Spread(0.004, 4.0, 0.003, 99.0, 0.001), 100, (3, 3))
    best = difference_of_best([[one]])
    assert (best.low, best.high) == pytest.approx((one.estimate().low, one.estimate().high))
    assert best.p_value == pytest.approx(one.p_value(), rel=1e-3)


def test_a_plan_shows_the_effect_as_often_as_it_says() -> None:
    """Plan from variances that are known, then carry it out."""
    spread = Spread(
        2 * 0.02**2 / 3 + 2 * 0.1**2 / 180, 4.0, 2 * 0.05**2 / 60 + 2 * 0.1**2 / 180, 59.0, 2 * 0.1**2 / 180
    )
    found = plan(Evidence(0.03, spread, 60, (3, 3)))
    assert found.runs is not None
    assert found.runs > 3
    draw, shown, times = np.random.default_rng(11), 0, 300
    for _ in range(times):
        world = World(draw, tasks=60, run_luck=0.02)
        one = difference(table(world.scores(0.53, found.runs)), table(world.scores(0.5, found.runs)))
        shown += one.estimate().low > 0
    assert shown / times == pytest.approx(POWER, abs=0.12)


def test_a_plan_says_what_alone_would_not_do() -> None:
    """All the doubt is in the runs: no number of tasks helps."""
    found = plan(Evidence(0.01, Spread(0.02**2, 4.0, 1e-9, 99.0, 0.0), 100, (3, 3)))
    assert found.tasks is None
    assert found.runs is not None
    nothing = plan(Evidence(0.0, Spread(0.02**2, 4.0, 1e-4, 99.0, 0.0), 100, (3, 3)))
    assert (nothing.runs, nothing.tasks, nothing.times) == (None, None, None)
