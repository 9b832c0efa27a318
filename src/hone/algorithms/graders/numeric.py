"""The number in the answer is the number in the gold answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from hone.algorithms.graders.answers import marked_answer
from hone.algorithms.graders.grade import Grade, GradingError, Task, verdict

DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][+-]?\d{1,3}(?![\w.]))?|\.\d+"
NUMBER = re.compile(
    rf"""
    (?P<sign>(?<![\w)}}])-(?=[\d.$\\])|(?:^|(?<=[=:(]))\s*-\s+)?
    (?:\\?\$\s*(?P<inner>-)?)?
    (?:
        (?P<whole>\d+)?\s*\\[dt]?frac\s*\{{\s*(?P<ftop>-?{DIGITS})\s*\}}\s*\{{\s*(?P<fbottom>{DIGITS})\s*\}}
      | (?:(?P<mixed>\d+)\s+)?(?P<top>{DIGITS})\s*/\s*(?P<bottom>{DIGITS})(?![\d/])
      | (?P<digits>{DIGITS})
    )
    (?P<percent>\s*\\?%)?
    """,
    re.VERBOSE,
)


LONGEST = 1000
"""Characters of a number. Models that repeat themselves write more, and Python refuses to read thousands of digits."""


@dataclass(frozen=True)
class Number:
    value: Fraction
    percent: bool = False
    """It stood before a percent sign."""


@dataclass(frozen=True)
class Numeric:
    """Reads the number that is marked as the answer, else the last one of the text, and compares it with the gold one.

    Reads 1,234.5, -3, 3/4, 1 1/2, 50 %, 1.5e3, $80,000 and \\frac{3}{4}. A percent sign on one side only may be a
    unit: 50 % is right where 50 or 0.5 was asked for.
    """

    tolerance: float = 1e-6
    """Relative to the gold number; absolute where that is below 1."""

    async def __call__(self, task: Task, answer: str) -> Grade:
        gold = find_number(task.gold)
        if gold is None:
            raise GradingError(f"the gold answer {task.gold!r} holds no number; grade it with another grader")
        found = find_number(answer)
        if found is None:
            return verdict(False, found="no number")
        return verdict(self._same(found, gold), found=_shown(found.value))

    def _same(self, found: Number, gold: Number) -> bool:
        readings = {found.value}
        if found.percent != gold.percent:
            readings.add(found.value / 100 if found.percent else found.value * 100)
        allowed = Fraction(self.tolerance) * max(abs(gold.value), Fraction(1))
        return any(abs(reading - gold.value) <= allowed for reading in readings)


def find_number(text: str) -> Number | None:
    """The number of the marked answer, which has to hold one; without a mark the last number of the text."""
    marked = marked_answer(text)
    found = list(NUMBER.finditer(_plain(text if marked is None else marked)))
    # What is marked leads with its number ("18 dollars for 3 days"); running text ends with it.
    return _read(found[-1 if marked is None else 0]) if found else None


def _plain(text: str) -> str:
    text = text.replace("\N{MINUS SIGN}", "-").replace("{,}", ",").replace("\\,", "").replace("\\!", "")
    return re.sub(r"(?<=\d)\s(?=\d{3}(?:\D|$))(?<!\d{4}\s)", "", text.replace("\N{NARROW NO-BREAK SPACE}", " "))


def _read(match: re.Match[str]) -> Number | None:
    if len(match.group()) > LONGEST:
        return None
    part = match.groupdict()
    if part["digits"] is not None:
        value = _value(part["digits"])
    else:
        bottom = _value(part["fbottom"] or part["bottom"])
        if bottom == 0:
            return None
        value = _value(part["ftop"] or part["top"]) / bottom
        value += _value(part["whole"] or part["mixed"] or "0")
    return Number(-value if part["sign"] or part["inner"] else value, part["percent"] is not None)


def _value(digits: str) -> Fraction:
    return Fraction(digits.replace(",", ""))


def _shown(value: Fraction) -> str | float:
    try:
        return float(value)
    except OverflowError:
        return "a number beyond 1e308"
