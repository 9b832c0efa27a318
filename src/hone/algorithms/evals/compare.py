"""Two models on the same items."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hone.algorithms.evals.run import Answer, read_answers, read_settings
from hone.algorithms.evals.statistics import Comparison, paired_comparison
from hone.errors import UserError


def compare_results(a: Path, b: Path) -> Comparison:
    """How much better the results in `b` are than those in `a`, item by item.

    Raises:
        UserError: nothing in one of them, or items of one name that are not the same: two benchmarks, or two files.
    """
    asked_a, asked_b = (read_settings(out)["benchmark"] for out in (a, b))
    if asked_a != asked_b:
        raise UserError(f"{a} holds results of {asked_a}, and {b} of {asked_b}; compare results on the same benchmark")
    answers_a, answers_b = read_answers(a), read_answers(b)
    for out, answers in ((a, answers_a), (b, answers_b)):
        if not answers:
            raise UserError(f"{out} holds no results; run a benchmark there first")
    asked = {answer.item: answer.asked for answer in answers_a}
    changed = [answer.item for answer in answers_b if asked.get(answer.item, answer.asked) != answer.asked]
    if changed:
        raise UserError(
            f"{a} and {b} were asked different questions under the same names, the first is {changed[0]!r}; compare "
            "results on the same file"
        )
    clusters = {answer.item: answer.unit for answer in answers_a}
    return paired_comparison(_by_item(answers_a), _by_item(answers_b), clusters)


def _by_item(answers: Sequence[Answer]) -> dict[str, float]:
    given: dict[str, list[float]] = {}
    for answer in answers:
        given.setdefault(answer.item, []).append(answer.score)
    return {item: sum(scores) / len(scores) for item, scores in given.items()}
