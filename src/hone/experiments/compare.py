"""What is different between two arms, or two experiments, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from hone.algorithms.config import Config
from hone.errors import UserError
from hone.experiments.records import ArmRecord, ExperimentRecord, Measurement, Usage
from hone.experiments.selection import Choice, choose
from hone.experiments.statistics import difference, scores
from hone.experiments.summary import total
from hone.experiments.wording import interval, number, p_value, seconds


class Change(Config):
    """A value that is not the same on both sides."""

    path: str
    """Dotted."""
    a: Any
    b: Any
    only: Literal["a", "b"] | None = None
    """The one side that has it at all."""


class MetricChange(Config):
    """The same metric on both sides, on validation."""

    metric: str
    a: float
    b: float
    difference: float
    """`b` less `a`, on the tasks that both share; whether that is good is the metric's affair."""
    low: float | None
    high: float | None
    p: float
    tasks: int
    paired: bool


class Difference(Config):
    """Of `b` from `a`."""

    a: str
    b: str
    config: list[Change]
    metrics: list[MetricChange]
    data: list[Change]
    """Fingerprints."""
    code: list[Change]
    """Versions."""
    usage_a: Usage
    usage_b: Usage

    def as_text(self) -> str:
        """In prose, for people."""
        parts = [f"{self.a} (a) and {self.b} (b)"]
        for title, changes in (("Configuration", self.config), ("Data", self.data), ("Code", self.code)):
            lines = [f"- {one.path}: {_told(one)}" for one in changes]
            parts.append("\n".join([f"{title}:", *lines]) if lines else f"{title}: no difference")
        lines = [
            f"- {one.metric}: {number(one.a)} -> {number(one.b)}, "
            f"difference {interval(one.difference, one.low, one.high)}, {p_value(one.p)}"
            f"{'' if one.paired else ' (measured on different rows)'}"
            for one in self.metrics
        ]
        parts.append("\n".join(["Validation:", *lines]) if lines else "Validation: no metric that both have")
        parts.append(f"Used: {_told_usage(self.usage_a)} -> {_told_usage(self.usage_b)}")
        return "\n\n".join(parts)


def diff(
    a: ArmRecord | ExperimentRecord,
    b: ArmRecord | ExperimentRecord,
    *,
    of: tuple[ExperimentRecord, ExperimentRecord] | None = None,
) -> Difference:
    """Two arms by what they kept; two experiments by their best groups.

    Args:
        of: The experiments of two arms, for their data and code.

    Raises:
        UserError: one is an arm and the other an experiment.
    """
    if isinstance(a, ArmRecord) and isinstance(b, ArmRecord):
        kept = ([one.kept] if one.kept is not None else [] for one in (a, b))
        return Difference(
            a=a.name,
            b=b.name,
            config=changes(_arm_config(a), _arm_config(b)),
            metrics=_metrics(*kept),
            data=changes(of[0].data_fingerprints, of[1].data_fingerprints) if of else [],
            code=changes(of[0].code, of[1].code) if of else [],
            usage_a=a.usage,
            usage_b=b.usage,
        )
    if isinstance(a, ExperimentRecord) and isinstance(b, ExperimentRecord):
        return Difference(
            a=a.id,
            b=b.id,
            config=changes(a.config, b.config),
            metrics=_metrics(_best(a), _best(b)),
            data=changes(a.data_fingerprints, b.data_fingerprints),
            code=changes(a.code, b.code),
            usage_a=total(arm.usage for arm in a.arms),
            usage_b=total(arm.usage for arm in b.arms),
        )
    raise UserError("an arm and an experiment cannot be compared; give two arms, or two experiments")


def changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Change]:
    """Values that are not the same, by dotted path."""
    flat_a, flat_b = dict(flatten(a)), dict(flatten(b))
    found = []
    for path in sorted(flat_a.keys() | flat_b.keys()):
        if path not in flat_b:
            found.append(Change(path=path, a=flat_a[path], b=None, only="a"))
        elif path not in flat_a:
            found.append(Change(path=path, a=None, b=flat_b[path], only="b"))
        elif flat_a[path] != flat_b[path]:
            found.append(Change(path=path, a=flat_a[path], b=flat_b[path]))
    return found


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf by its dotted path. Lists of mappings count their items; other lists are leaves."""
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{path}.")
        elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            yield from flatten({str(number): one for number, one in enumerate(value)}, f"{path}.")
        else:
            yield path, value


def _arm_config(arm: ArmRecord) -> dict[str, Any]:
    return arm.config or {**arm.cell, "seed": arm.seed, "tags": arm.tags}


def _best(record: ExperimentRecord) -> list[Measurement]:
    """What the repeats of the best group kept."""
    if record.metric is None:
        return []
    try:
        choice: Choice = choose(record.arms, record.metric, record.goal)
    except UserError:
        return []
    return [arm.kept for arm in record.arms if arm.name in choice.ranking[0].arms and arm.kept is not None]


def _metrics(a: list[Measurement], b: list[Measurement]) -> list[MetricChange]:
    if not a or not b:
        return []
    found = []
    for metric in a[0].metrics:
        one, other = scores(a, metric), scores(b, metric)
        if one is None or other is None:
            continue
        evidence = difference(other, one)
        bounds = evidence.estimate()
        known = evidence.knows_runs or evidence.knows_tasks
        found.append(
            MetricChange(
                metric=metric,
                a=sum(each.metrics[metric] for each in a) / len(a),
                b=sum(each.metrics[metric] for each in b) / len(b),
                difference=evidence.value,
                low=bounds.low if known else None,
                high=bounds.high if known else None,
                p=evidence.p_value(),
                tasks=evidence.tasks,
                paired=evidence.paired,
            )
        )
    return found


def _told(change: Change) -> str:
    if change.only:
        return f"{change.a if change.only == 'a' else change.b!r}, only in {change.only}"
    return f"{change.a!r} -> {change.b!r}"


def _told_usage(usage: Usage) -> str:
    tokens = usage.training_tokens + usage.prefill_tokens + usage.sample_tokens
    return f"{tokens:,} tokens, {seconds(usage.seconds)}" + (f", ${usage.cost:,.2f}" if usage.cost else "")
