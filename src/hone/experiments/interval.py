"""Intervals as records keep them: bounds that JSON can say, no wider than a metric goes."""

import math

from hone.algorithms.config import Config
from hone.algorithms.evals.statistics import Estimate
from hone.experiments.records import ExperimentRecord


class Interval(Config):
    """Bounds at the conclusion's level; None where nothing bounds it."""

    low: float | None
    high: float | None


def possible(record: ExperimentRecord, metric: str | None, mean: Estimate) -> Interval:
    """Of a mean, no further than the metric goes."""
    least, most = record.bounds.get(metric or "", (None, None))
    low = mean.low if least is None else max(least, mean.low)
    return interval(low, mean.high if most is None else min(most, mean.high))


def interval(low: float, high: float) -> Interval:
    return Interval(low=low if math.isfinite(low) else None, high=high if math.isfinite(high) else None)
