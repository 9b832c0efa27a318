"""What sealed tests found, and how that compares with the model without training."""

from __future__ import annotations

from typing import Any

from hone.algorithms.config import Config
from hone.experiments.hypothesis import BASELINE
from hone.experiments.interval import Interval, interval, possible
from hone.experiments.records import BenchmarkResult, ExperimentRecord, Usage
from hone.experiments.statistics import difference, group_mean, scores


class TestResult(Config):
    """One subject on one sealed test set."""

    benchmark: str
    subject: str
    metric: str
    value: float
    interval: Interval
    tasks: int
    gain: float | None = None
    """Its value less the baseline's, on the same tasks."""
    gain_interval: Interval | None = None
    gain_p: float | None = None
    tokens_per_task: float = 0.0
    """Read and written, by all answers to a task."""
    seconds_per_task: float = 0.0
    """By the clock, many at a time."""
    cost_per_task: float = 0.0
    """US dollars."""


def test_results(record: ExperimentRecord) -> list[TestResult]:
    return [_result(record, result, metric) for result in record.benchmarks for metric in result.measurement.metrics]


def _result(record: ExperimentRecord, result: BenchmarkResult, metric: str) -> TestResult:
    found = scores([result.measurement], metric)
    assert found is not None  # the metric is one of its own
    mean = group_mean(found)
    estimate = mean.estimate()
    gain: dict[str, Any] = {}
    base = baseline_of(record, result)
    untrained = scores([base.measurement], metric, trained=False) if base is not None else None
    if untrained is not None:
        over = difference(found, untrained)
        bounds = over.estimate()
        gain = {"gain": over.value, "gain_interval": interval(bounds.low, bounds.high), "gain_p": over.p_value()}
    return TestResult(
        benchmark=result.benchmark,
        subject=result.subject,
        metric=metric,
        value=mean.value,
        interval=possible(record, metric, estimate),
        tasks=mean.tasks,
        **gain,
        **_per_task(result.measurement.usage, mean.tasks),
    )


def _per_task(usage: Usage, tasks: int) -> dict[str, Any]:
    tokens = usage.training_tokens + usage.prefill_tokens + usage.sample_tokens
    return {
        "tokens_per_task": tokens / tasks,
        "seconds_per_task": usage.seconds / tasks,
        "cost_per_task": usage.cost / tasks,
    }


def baseline_of(record: ExperimentRecord, result: BenchmarkResult) -> BenchmarkResult | None:
    if result.subject == BASELINE:
        return None
    same = (one for one in record.benchmarks if one.benchmark == result.benchmark and one.subject == BASELINE)
    return next(same, None)
