"""A line chart as inline SVG. Colours come from the page's CSS classes `series-0`, `series-1`, ..."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 560, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 26, 30
TICKS = 4


@dataclass(frozen=True)
class Series:
    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Axes:
    """Both start at zero and end at a round number."""

    x_top: float
    y_top: float

    def x(self, value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * value / self.x_top, 1)

    def y(self, value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / self.y_top, 1)


def chart(series: Sequence[Series], *, x_label: str, y_label: str) -> str:
    """All series on one pair of axes. A value that is not finite leaves a gap."""
    drawn = [point for line in series for point in line.points if math.isfinite(point[1])]
    axes = Axes(
        nice_ceiling(max((x for x, _ in drawn), default=1.0)), nice_ceiling(max((y for _, y in drawn), default=1.0))
    )
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(f"{y_label} over {x_label}")}">']
    parts += _grid(axes)
    for number, line in enumerate(series):
        name = html.escape(line.name)
        for piece in _unbroken(line.points):
            path = " ".join(f"{axes.x(x)},{axes.y(y)}" for x, y in piece)
            parts.append(f'<polyline class="line series-{number}" points="{path}"><title>{name}</title></polyline>')
    parts.append(_text("label", WIDTH - RIGHT, HEIGHT - 2, x_label, anchor="end"))
    parts.append(_text("label", 0, 12, y_label, anchor="start"))
    return "".join([*parts, "</svg>"])


def smooth(values: Sequence[float], window: int) -> list[float]:
    """The mean of each value and the `window - 1` before it: what a noisy curve does, with no look ahead."""
    recent = [values[max(0, end - window) : end] for end in range(1, len(values) + 1)]
    return [sum(some) / len(some) for some in recent]


def nice_ceiling(value: float) -> float:
    """The least of 1, 1.2, 1.6 ... 10, times a power of ten, that is not below `value`; a quarter of it reads well."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10) if step * power >= value * (1 - 1e-9))


def _grid(axes: Axes) -> list[str]:
    parts = []
    for tick in range(TICKS + 1):
        x, y = axes.x_top * tick / TICKS, axes.y_top * tick / TICKS
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{axes.y(y)}" x2="{WIDTH - RIGHT}" y2="{axes.y(y)}"/>')
        parts.append(_text("tick", LEFT - 6, axes.y(y) + 3.5, f"{y:g}", anchor="end"))
        parts.append(
            _text("tick", axes.x(x), HEIGHT - BOTTOM + 15, f"{x:g}", anchor="end" if tick == TICKS else "middle")
        )
    return parts


def _text(kind: str, x: float, y: float, content: str, *, anchor: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{html.escape(content)}</text>'


def _unbroken(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """The runs of finite points."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if math.isfinite(point[1]):
            pieces[-1].append(point)
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]
