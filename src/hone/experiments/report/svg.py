"""Charts as inline SVG, drawn by hand: no library, no script. Colours come from the page's classes `s0` ... `s7`."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 640, 280
LEFT, RIGHT, TOP, BOTTOM = 66, 16, 14, 44
COLOURS = 8
"""More series than these are not told apart; a chart has no more."""


@dataclass(frozen=True)
class Point:
    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Scale:
    """Values to pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (math.log10(one) if self.log else one for one in (self.low, self.high, value))
        share = (at - low) / (high - low) if high > low else 0.5
        return round(self.start + (self.end - self.start) * share, 1)


def curves(series: Sequence[Series], *, title: str, x_label: str, y_label: str) -> str:
    """Lines, with a band from each point's `low` to its `high`."""
    x, y = _scales(series, log=False)
    parts = [*_axes(x, y, ticks(x.low, x.high), x_label, y_label)]
    for number, one in enumerate(series):
        colour, name = f"s{number}", html.escape(one.name)
        banded = [point for point in one.points if point.low is not None and point.high is not None]
        if len(banded) > 1:
            upper = [f"{x(point.x)},{y(point.high or 0.0)}" for point in banded]
            lower = [f"{x(point.x)},{y(point.low or 0.0)}" for point in reversed(banded)]
            parts.append(f'<polygon class="band {colour}" points="{" ".join(upper + lower)}"/>')
        path = " ".join(f"{x(point.x)},{y(point.y)}" for point in one.points)
        parts.append(f'<polyline class="line {colour}" points="{path}"><title>{name}</title></polyline>')
        parts += [
            _dot(x(point.x), y(point.y), colour, f"{one.name}: {point.y:.4g} at {point.x:g}") for point in one.points
        ]
    return _figure(parts, title, HEIGHT)


def sweep(series: Sequence[Series], *, title: str, x_label: str, y_label: str) -> str:
    """Points with their intervals over the values of an axis, which is logarithmic if they span decades."""
    values = sorted({point.x for one in series for point in one.points})
    log = values[0] > 0 and values[-1] / values[0] >= 10
    x, y = _scales(series, log=log, spread=0.06)
    parts = [
        *_axes(x, y, values if len(values) <= 8 else _log_or_plain(x), f"{x_label}{' (log)' if log else ''}", y_label)
    ]
    for number, one in enumerate(series):
        colour = f"s{number}"
        aside = 5 * (number - (len(series) - 1) / 2)  # intervals stand side by side
        path = " ".join(f"{x(point.x) + aside:.1f},{y(point.y)}" for point in one.points)
        parts.append(
            f'<polyline class="line {colour}" points="{path}"><title>{html.escape(one.name)}</title></polyline>'
        )
        for point in one.points:
            at = round(x(point.x) + aside, 1)
            if point.low is not None and point.high is not None:
                parts.append(_line(f"bar {colour}", at, y(point.low), at, y(point.high)))
            parts.append(_dot(at, y(point.y), colour, f"{one.name}: {point.y:.4g} at {point.x:g}"))
    return _figure(parts, title, HEIGHT)


def forest(rows: Sequence[tuple[str, Point]], *, title: str, x_label: str) -> str:
    """One interval below another; `Point.x` is the value, `low` and `high` bound it."""
    height = TOP + 24 * len(rows) + BOTTOM
    ends = [end for _, point in rows for end in (point.x, point.low, point.high) if end is not None]
    low, high = _padded(min(ends), max(ends))
    left = min(290, LEFT + 7 * max(len(name) for name, _ in rows))
    x = Scale(low, high, left, WIDTH - RIGHT)
    parts = []
    for at in ticks(low, high):
        parts.append(_line("grid", x(at), TOP, x(at), height - BOTTOM))
        parts.append(_text("tick", x(at), height - BOTTOM + 16, f"{at:g}", "middle"))
    for number, (name, point) in enumerate(rows):
        y, colour = TOP + 24 * number + 12, "s0" if number == 0 else "plain"
        shown = name if len(name) <= 38 else f"{name[:37]}…"
        parts.append(_text("tick name", left - 10, y + 4, shown, "end"))
        if point.low is not None and point.high is not None:
            parts.append(_line(f"bar {colour}", x(point.low), y, x(point.high), y))
        parts.append(_dot(x(point.x), y, colour, f"{name}: {point.x:.4g}"))
    parts.append(_text("label", (left + WIDTH - RIGHT) / 2, height - 6, x_label, "middle"))
    return _figure(parts, title, height)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers within the range: steps of 1, 2 or 5 times a power of ten."""
    if high <= low:
        return [low]
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(step * factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = max(0, -math.floor(math.log10(step)))
    return [round(number * step, digits) for number in range(first, last + 1)]


def _log_or_plain(x: Scale) -> list[float]:
    if not x.log:
        return ticks(x.low, x.high)
    powers = range(math.ceil(math.log10(x.low) - 1e-9), math.floor(math.log10(x.high) + 1e-9) + 1)
    return [10.0**power for power in powers]


def _scales(series: Sequence[Series], *, log: bool, spread: float = 0.0) -> tuple[Scale, Scale]:
    points = [point for one in series for point in one.points]
    xs = [point.x for point in points]
    ys = [end for point in points for end in (point.y, point.low, point.high) if end is not None]
    low, high = min(xs), max(xs)
    inset = spread * (WIDTH - LEFT - RIGHT)
    if high <= low:
        low, high, log = low - 1, high + 1, False
    return (
        Scale(low, high, LEFT + inset, WIDTH - RIGHT - inset, log),
        Scale(*_padded(min(ys), max(ys)), HEIGHT - BOTTOM, TOP),
    )


def _padded(low: float, high: float) -> tuple[float, float]:
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return low - room, high + room


def _axes(x: Scale, y: Scale, x_ticks: Sequence[float], x_label: str, y_label: str) -> list[str]:
    parts = []
    for at in ticks(y.low, y.high):
        parts.append(_line("grid", LEFT, y(at), WIDTH - RIGHT, y(at)))
        parts.append(_text("tick", LEFT - 8, y(at) + 4, f"{at:g}", "end"))
    parts += [_text("tick", x(at), HEIGHT - BOTTOM + 18, f"{at:g}", "middle") for at in x_ticks]
    parts.append(_line("axis", LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM))
    parts.append(_text("label", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x_label, "middle"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text class="label" transform="translate(13 {middle:.0f}) rotate(-90)" text-anchor="middle">'
        f"{html.escape(y_label)}</text>"
    )
    return parts


def _figure(parts: Sequence[str], title: str, height: int) -> str:
    told = html.escape(title)
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{told}">{"".join(parts)}</svg>'


def _dot(x: float, y: float, colour: str, told: str) -> str:
    return f'<circle class="dot {colour}" cx="{x}" cy="{y}" r="3"><title>{html.escape(told)}</title></circle>'


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def _text(kind: str, x: float, y: float, content: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{html.escape(content)}</text>'
