"""Numbers as people read them, the same in a conclusion, a report and a table."""

from __future__ import annotations

import math
from collections.abc import Sequence


def number(value: float | None, half_width: float | None = None) -> str:
    """To the digits that its interval leaves meaningful: two of the half-width, or three of its own without one."""
    if value is None or not math.isfinite(value):
        return "?"
    if half_width is None or not math.isfinite(half_width) or half_width <= 0:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    digits = max(0, 1 - math.floor(math.log10(half_width)))
    return f"{value:,.{min(digits, 9)}f}"


def interval(value: float, low: float | None, high: float | None) -> str:
    """`0.61 (0.57 to 0.65)`; a bound that is not known is a question mark."""
    half = None if low is None or high is None else (high - low) / 2
    if low is None and high is None:
        return f"{number(value)} (no interval)"
    return f"{number(value, half)} ({number(low, half)} to {number(high, half)})"


def p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def count(items: int, one: str, more: str | None = None) -> str:
    """`1 arm`, `3 arms`."""
    return f"{items:,} {one if items == 1 else more or f'{one}s'}"


def listed(names: Sequence[str], most: int = 6) -> str:
    """`a, b and c`; of many the first ones, and how many more."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def seconds(value: float) -> str:
    """`45 s`, `12 min`, `3.4 h`."""
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"
