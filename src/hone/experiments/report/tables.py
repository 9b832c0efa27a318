"""The tables of the page, as plain rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hone.experiments.compare import flatten
from hone.experiments.conclusion import Conclusion, RankedGroup
from hone.experiments.records import ArmRecord, ExperimentRecord, Usage


@dataclass(frozen=True)
class ArmRow:
    """One arm, with what its group came to."""

    arm: ArmRecord
    rank: int | None
    """Of its group."""
    value: float | None
    """Its own, of what it kept."""
    group: RankedGroup | None
    tokens: int
    tokens_per_task: float | None
    """To measure one validation row, as the last measurement took; so are the seconds and the dollars."""
    seconds_per_task: float | None
    cost_per_task: float | None


@dataclass(frozen=True)
class Cell:
    """Of the forgetting matrix."""

    value: float | None
    change: float | None
    """Since the stage itself was learned; positive is better. None where there is nothing to forget yet."""
    shade: int
    """0 for the worst of all cells to 10 for the best."""


@dataclass(frozen=True)
class Forgetting:
    """Rows: what was just learned. Columns: what is measured."""

    group: str
    stages: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def arm_rows(record: ExperimentRecord, conclusion: Conclusion) -> list[ArmRow]:
    """Best group first, then those without a result."""
    ranks = {one.group: number for number, one in enumerate(conclusion.ranking, start=1)}
    groups = {one.group: one for one in conclusion.ranking}
    rows = [_arm_row(arm, record.metric, ranks.get(arm.group), groups.get(arm.group)) for arm in record.arms]
    return sorted(rows, key=lambda row: row.rank or len(rows) + 1)


def _arm_row(arm: ArmRecord, metric: str | None, rank: int | None, group: RankedGroup | None) -> ArmRow:
    kept = arm.kept
    tasks = max((len(one) for one in kept.tasks.values()), default=0) if kept else 0
    return ArmRow(
        arm,
        rank,
        kept.metrics.get(metric) if kept and metric else None,
        group,
        tokens(arm.usage),
        tokens(kept.usage) / tasks if kept and tasks else None,
        kept.usage.seconds / tasks if kept and tasks else None,
        kept.usage.cost / tasks if kept and tasks and kept.usage.cost else None,
    )


def tokens(usage: Usage) -> int:
    return usage.training_tokens + usage.prefill_tokens + usage.sample_tokens


def differing(record: ExperimentRecord) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Paths whose values are not the same in all groups, and each group's values at them. Seeds are left out."""
    first = {arm.group: arm for arm in reversed(record.arms)}
    groups = list(dict.fromkeys(arm.group for arm in record.arms))
    known = {group: {**dict(flatten(first[group].config)), **first[group].cell} for group in groups}
    paths = dict.fromkeys(path for group in groups for path in (*first[group].cell, *known[group]))
    ignored = ("seed", "name")
    shown = [
        path
        for path in paths
        if path not in ignored and len({_plain(known[group].get(path, "")) for group in groups}) > 1
    ]
    return shown, [(group, [_plain(known[group].get(path, "")) for path in shown]) for group in groups]


def forgetting(record: ExperimentRecord) -> list[Forgetting]:
    """One matrix for each group: means over its repeats."""
    found = []
    groups = {arm.name: arm.group for arm in record.arms}
    sign = 1.0 if record.goal == "max" else -1.0
    for group in dict.fromkeys(groups.get(one.arm, one.arm) for one in record.forgetting):
        values: dict[tuple[str, str], list[float]] = {}
        for one in record.forgetting:
            if groups.get(one.arm, one.arm) == group:
                metrics = one.measurement.metrics
                value = metrics.get(record.metric or "", next(iter(metrics.values()), None))
                if value is not None:
                    values.setdefault((one.after, one.on), []).append(value)
        means = {key: sum(some) / len(some) for key, some in values.items()}
        stages = tuple(dict.fromkeys(on for _, on in means))
        low, high = (pick((sign * one for one in means.values()), default=0.0) for pick in (min, max))
        learned = tuple(dict.fromkeys(after for after, _ in means))
        rows = []
        for number, after in enumerate(learned):
            cells = []
            for on in stages:
                value = means.get((after, on))
                known = on in learned[:number] and value is not None and (on, on) in means
                change = sign * (value - means[on, on]) if known and value is not None else None
                shade = 0 if value is None or high <= low else round(10 * (sign * value - low) / (high - low))
                cells.append(Cell(value, change, shade))
            rows.append((after, tuple(cells)))
        found.append(Forgetting(group, stages, tuple(rows)))
    return found


def as_json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False, default=str)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
