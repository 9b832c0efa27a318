"""Which charts a record has: learning curves, sweeps, groups beside each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hone.experiments.conclusion import Conclusion
from hone.experiments.records import ExperimentRecord
from hone.experiments.report import svg
from hone.experiments.report.svg import COLOURS, Point, Series

SHOWN = 16
"""Groups beside each other, at most: the best ones. The table has all."""


@dataclass(frozen=True)
class Chart:
    title: str
    note: str
    svg: str
    legend: tuple[str, ...] = ()
    """Names of the series, in the order of their colours."""


def charts(record: ExperimentRecord, conclusion: Conclusion) -> Iterator[Chart]:
    """In the order of the page; none that would be empty."""
    if record.metric is None:
        return
    less = ", less is better" if record.goal == "min" else ""
    label = f"{record.metric}{less}"
    ranked = [one.group for one in conclusion.ranking]
    if len(ranked) > 1:
        rows = [(one.group, Point(one.value, 0, one.interval.low, one.interval.high)) for one in conclusion.ranking]
        note = f"Means over repeats on validation, with their {conclusion.level:.0%} intervals, best first."
        if len(rows) > SHOWN:
            note += f" The best {SHOWN} of {len(rows)}."
        title = "Groups beside each other"
        drawn = svg.forest(rows[:SHOWN], title=f"{title}: {_told(rows[:3])}", x_label=label)
        yield Chart(title, note, drawn)
    rest = [group for group in dict.fromkeys(arm.group for arm in record.arms) if group not in ranked]
    measured = [one for group in ranked + rest if (one := _curve(record, group)) is not None]
    series = measured[:COLOURS]
    if series:
        title = "Learning curves"
        note = "Mean over repeats on validation; the band reaches from the lowest repeat to the highest."
        if len(measured) > COLOURS:
            note += f" The best {COLOURS} of {len(measured)}."
        drawn = svg.curves(series, title=f"{title} of {label}", x_label="optimizer steps", y_label=label)
        yield Chart(title, note, drawn, tuple(one.name for one in series))
    yield from _sweeps(record, conclusion, label)


def _told(rows: Sequence[tuple[str, Point]]) -> str:
    return ", ".join(f"{name} {point.x:.4g}" for name, point in rows)


def _curve(record: ExperimentRecord, group: str) -> Series | None:
    """The group's mean at each step; None where it was measured once only."""
    by_step: dict[int, list[float]] = {}
    for arm in record.arms:
        if arm.group == group:
            for one in arm.validation:
                value = one.metrics.get(record.metric or "", math.nan)
                if math.isfinite(value):
                    by_step.setdefault(one.step, []).append(value)
    if len(by_step) < 2:
        return None
    points = []
    for step, values in sorted(by_step.items()):
        band = (min(values), max(values)) if len(values) > 1 else (None, None)
        points.append(Point(step, sum(values) / len(values), *band))
    return Series(group, tuple(points))


def _sweeps(record: ExperimentRecord, conclusion: Conclusion, label: str) -> Iterator[Chart]:
    """For each axis of numbers, one line for each combination of the other axes' values."""
    cells = {arm.group: arm.cell for arm in record.arms}
    results = {one.group: one for one in conclusion.ranking}
    for path in dict.fromkeys(path for arm in record.arms for path in arm.cell):
        lines: dict[str, list[Point]] = {}
        for group, one in results.items():  # best first, so is the order of the lines
            value = cells[group].get(path)
            if isinstance(value, int | float) and not isinstance(value, bool):
                rest = ", ".join(f"{key.split('.')[-1]} {at}" for key, at in cells[group].items() if key != path)
                point = Point(float(value), one.value, one.interval.low, one.interval.high)
                lines.setdefault(rest or "all arms", []).append(point)
        if len({point.x for line in lines.values() for point in line}) < 2:
            continue
        series = [
            Series(name, tuple(sorted(points, key=lambda point: point.x)))
            for name, points in list(lines.items())[:COLOURS]
        ]
        note = f"Means on validation with their {conclusion.level:.0%} intervals."
        if len(lines) > COLOURS:
            note += f" The best {COLOURS} of {len(lines)} combinations of the other axes."
        drawn = svg.sweep(series, title=f"{label} over {path}", x_label=path, y_label=label)
        yield Chart(f"Over {path}", note, drawn, tuple(one.name for one in series) if len(series) > 1 else ())
