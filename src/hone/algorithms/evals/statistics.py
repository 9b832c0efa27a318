"""What scores on a sample of items say about all items.

Answers to one item, and items of one cluster (a passage with several questions), are not independent: intervals here
are over clusters, or they would be too narrow (Miller 2024, "Adding Error Bars to Evals", arXiv 2411.00640).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import stats

from hone.errors import UserError

Values = npt.NDArray[np.float64]
Item = TypeVar("Item", bound=Hashable)


@dataclass(frozen=True)
class Estimate:
    """A mean and the interval that holds the true one with probability `level`, over many such samples."""

    mean: float
    low: float
    high: float
    items: int
    """Independent units it rests on."""
    level: float = 0.95

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def pass_at_k(answers: int, correct: int, k: int) -> float:
    """The probability that one of `k` answers is right, estimated without bias from `answers` of which some are.

    `1 - C(n - c, k) / C(n, k)`: Chen et al. 2021 (arXiv 2107.03374), equation 1.
    """
    if not 0 <= correct <= answers:
        raise UserError(f"{correct} of {answers} answers cannot be right")
    if not 1 <= k <= answers:
        raise UserError(f"pass@{k} needs {k} answers or more to each item; there are {answers}")
    return 1.0 - math.comb(answers - correct, k) / math.comb(answers, k)


def clustered_interval(values: Sequence[float], clusters: Sequence[Hashable], level: float = 0.95) -> Estimate:
    """The mean of all values, with an interval from the spread between clusters (t distribution, G - 1 degrees).

    The cluster-robust standard error of a mean: `sqrt(G / (G - 1)) * sqrt(sum of squared cluster residuals) / N`.
    """
    x = _values(values)
    sums = _cluster_sums(x - x.mean(), clusters)
    groups = len(sums)
    if groups < 2:
        return Estimate(float(x.mean()), -math.inf, math.inf, groups, level)
    error = math.sqrt(groups / (groups - 1)) * math.sqrt(float(np.square(sums).sum())) / len(x)
    margin = float(stats.t.ppf(0.5 + level / 2, groups - 1)) * error
    return Estimate(float(x.mean()), float(x.mean()) - margin, float(x.mean()) + margin, groups, level)


AT_ONCE = 1_000_000
"""Clusters drawn at a time, which bounds the memory that this takes."""


def bootstrap_interval(
    values: Sequence[float], clusters: Sequence[Hashable], level: float = 0.95, *, draws: int = 10_000, seed: int = 0
) -> Estimate:
    """The mean of all values, with the percentile interval of means of clusters drawn with replacement.

    Efron and Tibshirani 1993, chapter 13. Asks nothing of the values' distribution, and stays within their range. With
    few clusters it is too narrow; one says nothing about others.
    """
    x = _values(values)
    sums, sizes = _cluster_sums(x, clusters), _cluster_sums(np.ones_like(x), clusters)
    groups, generator = len(sums), np.random.default_rng(seed)
    if groups < 2:
        return Estimate(float(x.mean()), -math.inf, math.inf, groups, level)
    means = np.empty(draws)
    rows = max(1, AT_ONCE // groups)
    for start in range(0, draws, rows):
        drawn = generator.integers(0, groups, size=(min(rows, draws - start), groups))
        means[start : start + rows] = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    return Estimate(float(x.mean()), float(low), float(high), groups, level)


def share_interval(
    values: Sequence[float],
    clusters: Sequence[Hashable],
    level: float = 0.95,
    *,
    interval: Callable[[Sequence[float], Sequence[Hashable], float], Estimate] = clustered_interval,
) -> Estimate:
    """`interval` for values from 0 to 1, within these bounds.

    Where all are 0, or all are 1, there is no spread to go by, and the interval would be a point. The bound is then the
    exact one for as many independent trials as there are clusters, `1 - ((1 - level) / 2) ** (1 / G)` for none of G
    (Clopper and Pearson 1934).
    """
    x = _values(values)
    if x.min() < 0 or x.max() > 1:
        raise UserError(f"shares lie between 0 and 1; there are values from {x.min()} to {x.max()}")
    found = interval(values, clusters, level)
    if found.items < 2:
        return found
    furthest = 1 - ((1 - level) / 2) ** (1 / found.items)
    if x.max() == 0:
        return replace(found, low=0.0, high=furthest)
    if x.min() == 1:
        return replace(found, low=1 - furthest, high=1.0)
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


@dataclass(frozen=True)
class Comparison:
    """How much better `b` is than `a` on the items that both answered."""

    difference: Estimate
    p_value: float
    """How often a difference as large would come about if which is `a` and which is `b` were drawn for each cluster."""
    shared_items: int
    only_a: int
    only_b: int


EXACT_UP_TO = 12
"""Clusters for which all sign patterns are tried; beyond, a sample of them."""


def paired_comparison(
    a: Mapping[Item, float],
    b: Mapping[Item, float],
    clusters: Mapping[Item, Hashable] | None = None,
    level: float = 0.95,
    *,
    draws: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Scores by item, mean over an item's answers; differences are tested by flipping their signs (Fisher 1935).

    Items of one of `clusters` flip together; without them every item stands alone.
    """
    shared = [item for item in a if item in b]
    if not shared:
        raise UserError("the two have no item in common; compare results on the same benchmark")
    d = _values([b[item] - a[item] for item in shared])
    names = [clusters[item] if clusters else item for item in shared]
    sums = _cluster_sums(d, names)
    if len(sums) <= EXACT_UP_TO:
        patterns = range(2 ** len(sums))
        signs = np.array([[1.0 if mask >> bit & 1 else -1.0 for bit in range(len(sums))] for mask in patterns])
        p_value = float((np.abs(signs @ sums) >= abs(sums.sum()) - 1e-12).mean())
    else:
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(draws, len(sums)))
        as_large = int((np.abs(signs @ sums) >= abs(sums.sum()) - 1e-12).sum())
        p_value = (as_large + 1) / (draws + 1)  # the pattern that was seen is one of them: never zero
    difference = clustered_interval(d.tolist(), names, level)
    return Comparison(difference, p_value, len(shared), len(a) - len(shared), len(b) - len(shared))


def as_json(record: Any) -> dict[str, Any]:
    """A dataclass of results. JSON has no infinity: an interval without a bound has null there."""
    return {key: _finite(value) for key, value in asdict(record).items()}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _values(values: Sequence[float]) -> Values:
    x = np.asarray(values, dtype=np.float64)
    if not len(x):
        raise UserError("there are no scores to summarise")
    if not np.isfinite(x).all():
        raise UserError("a score is not a finite number; count a failure as 0 before summarising")
    return x


def _cluster_sums(x: Values, clusters: Sequence[Hashable]) -> Values:
    if len(clusters) != len(x):
        raise UserError(f"{len(x)} values need as many cluster names; there are {len(clusters)}")
    numbers: dict[Hashable, int] = {}
    index = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters])
    return np.bincount(index, weights=x, minlength=len(numbers)).astype(np.float64)
