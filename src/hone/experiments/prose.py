"""A conclusion as people read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hone.experiments.hypothesis import BASELINE
from hone.experiments.records import Usage
from hone.experiments.wording import count, interval, listed, number, p_value, seconds

if TYPE_CHECKING:
    from hone.experiments.conclusion import Conclusion
    from hone.experiments.sealed_tests import TestResult


def paragraphs(it: Conclusion) -> list[str]:
    """The verdict first; a part without content is empty."""
    words = {"supported": "Supported", "refuted": "Refuted", "inconclusive": "Inconclusive", "none": "No hypothesis"}
    first = f"{words[it.verdict]}: {it.statement}" if it.statement else f"{words[it.verdict]}."
    return [
        f"{first}\n{it.reason}",
        _told_effect(it),
        _told_best(it),
        "\n".join(_told_test(one) for one in it.tests),
        _told_list("Failed", [f"{one.arm} ({one.phase}): {one.reason}" for one in it.failures]),
        _told_usage(it.usage),
        _told_list("Caveats", [one.text for one in it.caveats]),
        _told_list("Next", [one.text for one in it.next]),
    ]


def _told_effect(it: Conclusion) -> str:
    if it.effect is None or it.better is None or it.than is None or it.interval is None:
        return ""
    low, high = it.interval.low, it.interval.high
    better, than = it.better, "the model without training" if it.than.best == BASELINE else it.than.best
    way = "better" if it.effect >= 0 else "worse"
    half = _half(low, high)
    bounds = f", {it.level:.0%} interval of the gain {number(low, half)} to {number(high, half)}"
    if half is None:
        bounds = ", with no interval"
    runs = " and ".join(count(runs, "run") for runs in it.runs) if it.than.best != BASELINE else ""
    runs = runs or count(it.runs[0], "run")
    chance = f", {p_value(it.p)}" if it.p is not None and low is not None else ""
    corrected = f"; corrected for {it.candidates} candidates" if it.candidates > 1 else ""
    direction = " (less is better)" if it.goal == "min" else ""
    return (
        f"By {it.metric}{direction} on {it.evidence}, {better.best} was {way} than {than} by "
        f"{number(abs(it.effect), half)}: {number(better.value)} against {number(it.than.value)}"
        f"{bounds}{chance} ({runs}, {count(it.tasks, 'task')}{corrected})."
    )


def _told_best(it: Conclusion) -> str:
    if it.best is None:
        return ""
    one = it.best
    shown = interval(one.value, one.interval.low, one.interval.high)
    ties = f" It is not told apart from {listed(one.tied_with)}." if one.tied_with else ""
    served = f" Served is {one.arm}, its middle repeat." if one.runs > 1 else ""
    return f"Best of {count(len(it.ranking), 'group')}: {one.group}, {it.metric} {shown}.{served}{ties}"


def _told_test(one: TestResult) -> str:
    shown = interval(one.value, one.interval.low, one.interval.high)
    took = f"{one.tokens_per_task:,.0f} tokens and {one.seconds_per_task:.2g} s each"
    took += f" for ${one.cost_per_task:.2g}" if one.cost_per_task else ""
    text = f"Test {one.benchmark}, {one.subject}: {one.metric} {shown} on {count(one.tasks, 'task')} ({took})"
    if one.gain is None or one.gain_interval is None:
        return f"{text}."
    gain = interval(one.gain, one.gain_interval.low, one.gain_interval.high)
    chance = f", {p_value(one.gain_p)}" if one.gain_p is not None else ""
    return f"{text}; change from without training {gain}{chance}."


def _told_list(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"{title}:", *(f"- {line}" for line in lines)]) if lines else ""


def _told_usage(usage: Usage) -> str:
    tokens = usage.training_tokens + usage.prefill_tokens + usage.sample_tokens
    cost = f", ${usage.cost:,.2f}" if usage.cost else ""
    return f"Used: {count(tokens, 'token')} ({usage.training_tokens:,} trained on), {seconds(usage.seconds)}{cost}."


def _half(low: float | None, high: float | None) -> float | None:
    return None if low is None or high is None else (high - low) / 2
