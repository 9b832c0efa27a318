"""What repeats on shared tasks say about a group of arms, and about the difference of two groups.

Two things make a measured mean differ from the true one: the tasks that happened to be drawn, and the luck of each
training run. Every run is measured on the same tasks, so the scores are a table, runs by tasks, with both as random
effects (Baayen et al. 2008; for evaluations Miller 2024, arXiv 2411.00640), and its mean has the variance
`runs + tasks - both`, where `both` is the noise of single cells, which each of the other two holds as well (two-way
clustering: Cameron, Gelbach and Miller 2011). Three runs tell their variance poorly, so it enters an interval with a
Student quantile of its own (as in Burdick and Graybill 1992, chapter 3), and the interval is never narrower than that
of the tasks alone. In simulations a 95 % interval holds the truth 94 to 99 % of the time from two runs a side on, and
92 % in the worst case tried: two runs against five, nearly all the luck on the side of the two.

    _S runs (seeds)    _T tasks    _C clusters of tasks that are not independent
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import special

from hone.algorithms.evals.statistics import Estimate
from hone.experiments.config import Goal
from hone.experiments.records import Measurement, TaskResult

Values = npt.NDArray[np.float64]

LEVEL = 0.95
"""How often an interval holds the truth, unless told otherwise."""
POWER = 0.8
"""How often a planned experiment should show an effect of the size that it is planned for."""
MOST_RUNS, MOST_TASKS = 100, 1_000_000
"""Plans beyond these are not made."""


def direction(goal: Goal) -> float:
    """1 where more is better, -1 where less is: times a value it is never less for the better of two."""
    return 1.0 if goal == "max" else -1.0


@dataclass(frozen=True)
class Scores:
    """One metric of the runs of a group."""

    values_ST: Values
    weights_T: Values
    tasks: tuple[str, ...]
    clusters: tuple[str, ...]
    trained: bool = True
    """Whether training made the rows differ: the rows of a model that was not trained have no luck of runs."""

    @property
    def runs(self) -> int:
        return len(self.values_ST)

    def on(self, tasks: Sequence[str]) -> Scores:
        """The same runs on some of the tasks."""
        if tuple(tasks) == self.tasks:
            return self
        place = {task: number for number, task in enumerate(self.tasks)}
        kept = [place[task] for task in tasks]
        return replace(
            self,
            values_ST=self.values_ST[:, kept],
            weights_T=self.weights_T[kept],
            tasks=tuple(tasks),
            clusters=tuple(self.clusters[number] for number in kept),
        )


@dataclass(frozen=True)
class Spread:
    """The variance of a value, by where it comes from. No degrees of freedom: not known."""

    runs: float = 0.0
    runs_df: float = 0.0
    tasks: float = 0.0
    tasks_df: float = 0.0
    both: float = 0.0
    """The part that `runs` and `tasks` both hold."""

    @property
    def variance(self) -> float:
        return max(self.runs + max(self.tasks - self.both, 0.0), self.tasks)

    def half_width(self, level: float = LEVEL) -> float:
        """Half an interval's width; infinite if nothing is known of the variance."""
        return float(_half_widths([self], level)[0])

    def scaled(self, runs: float, tasks: float) -> Spread:
        """What it would be with so many times the runs and the tasks."""
        both = self.both / (runs * tasks)
        runs_df = (self.runs_df + 1) * runs - 1 if self.runs_df else 0.0
        tasks_df = (self.tasks_df + 1) * tasks - 1 if self.tasks_df else 0.0
        return Spread(
            max(self.runs - self.both, 0.0) / runs + both if self.runs_df else 0.0,
            runs_df,
            max(self.tasks - self.both, 0.0) / tasks + both,
            tasks_df,
            both,
        )


@dataclass(frozen=True)
class Evidence:
    """A mean or a difference, and how sure it is."""

    value: float
    spread: Spread
    tasks: int
    """Tasks it rests on; 0 if only totals were recorded."""
    runs: tuple[int, ...]
    """Training runs on each side."""
    paired: bool = True
    """Whether both sides were measured on the same tasks."""

    def estimate(self, level: float = LEVEL) -> Estimate:
        margin = self.spread.half_width(level)
        return Estimate(self.value, self.value - margin, self.value + margin, self.tasks, level)

    def p_value(self, null: float = 0.0) -> float:
        """Two-sided: one minus the level of the widest interval that leaves `null` out."""
        return _least_alpha(lambda alpha: self.spread.half_width(1 - alpha) < abs(self.value - null))

    @property
    def knows_runs(self) -> bool:
        """Whether the interval covers the luck of training runs."""
        return self.spread.runs_df > 0

    @property
    def knows_tasks(self) -> bool:
        """Whether the interval covers which tasks happened to be drawn."""
        return self.spread.tasks_df > 0


def scores(measurements: Sequence[Measurement], metric: str, *, trained: bool = True) -> Scores | None:
    """What the runs of a group got, one measurement each, on the tasks that all of them share.

    Where one has no scores by task, only totals are left: no tasks, and one column. None if a measurement lacks the
    metric, or there are no measurements.
    """
    if not measurements or any(metric not in one.metrics for one in measurements):
        return None
    by_task_S = [_by_task(one.tasks.get(metric, [])) for one in measurements]
    tasks = [task for task in by_task_S[0] if all(task in row for row in by_task_S)]
    if not tasks:
        totals = np.array([[one.metrics[metric]] for one in measurements])
        return Scores(totals, np.ones(1), (), ("all",), trained)
    first = by_task_S[0]
    return Scores(
        np.array([[row[task].number for task in tasks] for row in by_task_S]),
        np.array([[row[task].weight for task in tasks] for row in by_task_S]).mean(axis=0),
        tuple(tasks),
        tuple(first[task].cluster or f"task {task}" for task in tasks),
        trained,
    )


def group_mean(group: Scores) -> Evidence:
    """The mean over runs and tasks, weighted."""
    side = _side(group)
    return Evidence(side.mean, _spread([side], _columns(group), group, _span(group)), len(group.tasks), (group.runs,))


def difference(better: Scores, than: Scores, goal: Goal = "max") -> Evidence:
    """How much better one group is than another; positive means better, whichever way the goal points.

    Tasks are paired. Runs are not, even where their seeds are the same: pairing three runs would halve what little is
    known of their variance. A group of one run is taken to vary as the other group does.
    """
    theirs = set(than.tasks)
    shared = [task for task in better.tasks if task in theirs]
    if shared and 2 * len(shared) >= min(len(better.tasks), len(than.tasks)):
        better, than = better.on(shared), than.on(shared)
        return _paired(better, than, direction(goal))
    one, other = group_mean(better), group_mean(than)
    sides = [_side(better), _side(than)]
    tasks = one.spread.tasks + other.spread.tasks
    known = one.knows_tasks and other.knows_tasks
    runs, runs_df, both = _runs(sides)
    spread = Spread(
        runs,
        runs_df,
        tasks if known else 0.0,
        _welch([(one.spread.tasks, one.spread.tasks_df), (other.spread.tasks, other.spread.tasks_df)])
        if known
        else 0.0,
        both if known else 0.0,
    )
    return Evidence(
        direction(goal) * (one.value - other.value), spread, one.tasks + other.tasks, (better.runs, than.runs), False
    )


@dataclass(frozen=True)
class BestDifference:
    """How much better the best of some groups is than the best of others."""

    value: float
    low: float
    high: float
    p_value: float
    """Against a difference of exactly the margin, two-sided, corrected as the interval is."""
    better: int
    than: int
    """Which groups are the best as measured."""
    candidates: int
    """How many the interval is corrected for: those of the larger side."""
    level: float


def difference_of_best(
    pairs: Sequence[Sequence[Evidence]], margin: float = 0.0, level: float = LEVEL, *, choices: int = 1
) -> BestDifference:
    """From every difference of one group to another, `pairs[better][than]`.

    The best as measured are lucky ones. The difference of the true best, `max(better) - max(than)`, lies above the
    largest of the least lower bounds. Against the true best of `than` each of `better` has one chance to seem too good,
    so lower bounds are corrected for the number of `better` (Bonferroni); that they must hold against every one of
    `than` needs no correction (Berger 1982). Upper bounds are the same with the sides exchanged.

    Args:
        choices: A correction for at least so many, where the pairs themselves were chosen by what was measured.
    """
    spreads = [one.spread for row in pairs for one in row]
    values = np.array([[one.value for one in row] for row in pairs])
    for_low, for_high = (max(candidates, choices) for candidates in values.shape)

    def bounds(alpha: float) -> tuple[float, float]:
        below, above = (_half_widths(spreads, 1 - alpha / n).reshape(values.shape) for n in (for_low, for_high))
        return float((values - below).min(axis=1).max()), float((values + above).max(axis=0).min())

    def excludes(alpha: float) -> bool:
        low, high = bounds(alpha)
        return low > margin or high < margin

    better = int(values.min(axis=1).argmax())
    than = int(values[better].argmin())
    low, high = bounds(1 - level)
    value = float(values[better, than])
    return BestDifference(value, low, high, _least_alpha(excludes), better, than, max(for_low, for_high), level)


@dataclass(frozen=True)
class Plan:
    """What would show the effect with a probability of `POWER`, if it is as large as it looks.

    `runs` alone, `tasks` alone, and `times` as many of both; None where even the most considered would not do.
    """

    runs: int | None
    tasks: int | None
    times: int | None


def plan(evidence: Evidence, margin: float = 0.0, candidates: int = 1, level: float = LEVEL) -> Plan:
    """How many runs on each side, or tasks, would tell the value from the margin."""
    gap = abs(evidence.value - margin)
    runs, tasks = max(evidence.runs), evidence.tasks

    def shows(times_runs: float, times_tasks: float) -> bool:
        spread = evidence.spread.scaled(times_runs, times_tasks)
        beyond = float(special.ndtri(POWER)) * math.sqrt(spread.variance)
        return spread.half_width(1 - (1 - level) / candidates) + beyond <= gap

    return Plan(
        _fewest(runs, MOST_RUNS, lambda n: shows(n / runs, 1)) if evidence.knows_runs else None,
        _fewest(tasks, MOST_TASKS, lambda n: shows(1, n / tasks)) if evidence.knows_tasks else None,
        _fewest(1, MOST_RUNS // runs, lambda n: shows(n, n)),
    )


@dataclass(frozen=True)
class _Side:
    """The runs of one group."""

    mean: float
    runs: int
    trained: bool
    run_variance: float
    """Between runs, of one run's mean over tasks."""
    cell_variance: float
    """The part of it that the noise of single cells makes."""


def _side(group: Scores) -> _Side:
    share_T = group.weights_T / group.weights_T.sum()
    means_S = group.values_ST @ share_T
    mean, runs = float(means_S.mean()), group.runs
    if runs < 2:
        return _Side(mean, runs, group.trained, 0.0, 0.0)
    cells_ST = (group.values_ST - group.values_ST.mean(axis=0) - means_S[:, None] + mean) * share_T
    sums_SC = _cluster_sums(cells_ST, group.clusters)
    clusters = sums_SC.shape[1]
    cells = 0.0
    if clusters >= 2:
        cells = clusters / (clusters - 1) * float(np.square(sums_SC).sum()) / (runs - 1)
    return _Side(mean, runs, group.trained, float(means_S.var(ddof=1)), cells)


def _runs(sides: Sequence[_Side]) -> tuple[float, float, float]:
    """Variance of a mean or difference from training runs, its degrees of freedom, and the part of single cells."""
    trained = [side for side in sides if side.trained]
    measured = [side for side in trained if side.runs >= 2]
    both = sum(side.cell_variance / side.runs for side in sides if side.runs >= 2 and side.trained)
    if not trained:
        return 0.0, math.inf, 0.0
    if not measured:
        return 0.0, 0.0, 0.0
    if len(measured) < len(trained):  # one run tells nothing of its luck: what the other side shows is taken for both
        known = measured[0]
        shares = sum(1 / side.runs for side in trained)
        return known.run_variance * shares, known.runs - 1.0, known.cell_variance * shares
    parts = [(side.run_variance / side.runs, side.runs - 1.0) for side in measured]
    return sum(variance for variance, _ in parts), _welch(parts), both


def _paired(better: Scores, than: Scores, sign: float) -> Evidence:
    weights_T = (better.weights_T + than.weights_T) / 2
    better, than = replace(better, weights_T=weights_T), replace(than, weights_T=weights_T)
    sides = [_side(better), _side(than)]
    spread = _spread(sides, _columns(better) - _columns(than), better, _span(better, than))
    value = sign * (sides[0].mean - sides[1].mean)
    return Evidence(value, spread, len(better.tasks), (better.runs, than.runs))


def _spread(sides: Sequence[_Side], columns_T: Values, group: Scores, span: float) -> Spread:
    runs, runs_df, both = _runs(sides)
    tasks, tasks_df = _tasks(columns_T, group, span)
    return Spread(runs, runs_df, tasks, tasks_df, both if tasks_df else 0.0)


def _columns(group: Scores) -> Values:
    columns_T: Values = group.values_ST.mean(axis=0)
    return columns_T


def _tasks(columns_T: Values, group: Scores, span: float) -> tuple[float, float]:
    """Variance of the weighted mean of columns from the draw of tasks, and its degrees of freedom.

    Cluster-robust, as `evals.statistics.clustered_interval`, which it equals for clusters of one size. Clusters of
    unequal weight count for fewer: Kish 1965.
    """
    if not group.tasks:
        return 0.0, 0.0
    share_T = group.weights_T / group.weights_T.sum()
    sums_C = _cluster_sums((columns_T - columns_T @ share_T) * share_T, group.clusters)
    shares_C = _cluster_sums(share_T, group.clusters)
    clusters = len(sums_C)
    if clusters < 2:
        return 0.0, 0.0
    variance = clusters / (clusters - 1) * float(np.square(sums_C).sum())
    effective = 1 / float(np.square(shares_C).sum())
    _, counts = np.unique(columns_T, return_counts=True)
    if 2 * counts.max() >= len(columns_T):
        # Nearly all alike, as when every task is solved: the others that exist have not been met yet. What two more
        # tasks at the far end would add is the least that is believed (Agresti and Coull 1998).
        variance = max(variance, 2 * (span / effective) ** 2)
    return variance, effective - 1


def _span(*groups: Scores) -> float:
    """How far scores reach, at least from 0 to 1."""
    return max(1.0, *(float(group.values_ST.max()) for group in groups)) - min(
        0.0, *(float(group.values_ST.min()) for group in groups)
    )


def _cluster_sums(values: Values, clusters: Sequence[str]) -> Values:
    """Sums over the last dimension, tasks, within each cluster."""
    if len(set(clusters)) == values.shape[-1]:
        return values
    numbers: dict[str, int] = {}
    index_T = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=np.int64)
    sums = np.zeros((*values.shape[:-1], len(numbers)))
    np.add.at(sums.T, index_T, values.T)
    return sums


def _by_task(results: Sequence[TaskResult]) -> dict[str, TaskResult]:
    """A row that stands in the data twice counts twice."""
    found: dict[str, TaskResult] = {}
    for one in results:
        if one.task in found:
            before = found[one.task]
            weight = before.weight + one.weight
            number = (before.number * before.weight + one.number * one.weight) / weight if weight else before.number
            one = one.model_copy(update={"value": number, "weight": weight})
        found[one.task] = one
    return found


def _welch(parts: Sequence[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of independent variances (Welch 1947)."""
    total = sum(variance for variance, _ in parts)
    if not total:
        return sum(df for _, df in parts)
    return total**2 / sum(variance**2 / df for variance, df in parts)


def _half_widths(spreads: Sequence[Spread], level: float) -> Values:
    """Each source's variance times the square of its own quantile of Student's t; never less than the tasks' alone."""
    runs, runs_df, tasks, tasks_df, both = np.array(
        [(one.runs, one.runs_df, one.tasks, one.tasks_df, one.both) for one in spreads]
    ).T
    runs_t, tasks_t = (
        np.where(df > 0, special.stdtrit(np.where(df > 0, df, 1.0), (1 + level) / 2), 0.0) for df in (runs_df, tasks_df)
    )
    crossed = runs_t**2 * runs + tasks_t**2 * np.maximum(tasks - both, 0.0)
    widths: Values = np.sqrt(np.maximum(crossed, tasks_t**2 * tasks))
    widths[(runs_df <= 0) & (tasks_df <= 0)] = math.inf
    return widths


def _least_alpha(excludes: Callable[[float], bool]) -> float:
    """The least probability of error at which a value is excluded, to four digits; at least 1e-12."""
    low, high = -12.0, 0.0
    if excludes(10.0**low):
        return float(10.0**low)
    if not excludes(1.0):
        return 1.0
    while high - low > 1e-5:
        middle = (low + high) / 2
        low, high = (low, middle) if excludes(10.0**middle) else (middle, high)
    return float(10.0**high)


def _fewest(start: int, most: int, enough: Callable[[int], bool]) -> int | None:
    """The least number from `start` to `most` that is enough; more never hurts."""
    if most < start or not enough(most):
        return None
    return bisect_left(range(start, most + 1), True, key=enough) + start
