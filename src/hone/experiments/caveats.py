"""Reasons to doubt what an experiment shows, from its record."""

from __future__ import annotations

from collections import Counter

from hone.algorithms.config import Config
from hone.experiments.records import ExperimentRecord
from hone.experiments.selection import Choice
from hone.experiments.statistics import Evidence
from hone.experiments.wording import count, listed

FEW_TASKS = 20
"""Below, an interval rests on scores being spread nearly normally."""


class Caveat(Config):
    """A reason to doubt."""

    kind: str
    text: str


def doubts(record: ExperimentRecord, choice: Choice, effect: Evidence | None, candidates: int) -> list[Caveat]:
    """About the effect, if one was measured, and about the choice of an arm."""
    found: list[tuple[str, str]] = []
    waiting = [arm.name for arm in record.arms if arm.training in ("waiting", "running")]
    if waiting:
        found.append(("unfinished", f"{count(len(waiting), 'arm')} had not finished: {listed(waiting)}."))
    if effect is not None:
        found += _about_effect(effect, candidates)
    if len(choice.ranking[0].arms) == 1 and (effect is None or effect.knows_runs):
        found.append(("one_run", f"{choice.group} is one training run: its interval does not cover the luck of runs."))
    if not choice.same_tasks:
        found.append(
            ("other_tasks", "Arms were measured on different rows; means are of those that all share, if any.")
        )
    lost = [one for one in choice.ranking if one.lost]
    if lost:
        told = ", ".join(f"{one.group} ({len(one.lost)} of {len(one.lost) + len(one.arms)})" for one in lost)
        found.append(("lost_repeats", f"Repeats without a result are left out, the others may be the luckier: {told}."))
    found += _about_choice(record, choice)
    for benchmark, reason in record.failed_benchmarks.items():
        found.append(("failed_test", f"The test {benchmark} lacks results: {reason.rstrip('.')}."))
    for opening in record.openings:
        if opening.overlap_waiver:
            text = f"Overlap of training rows with {opening.benchmark} was waived: {opening.overlap_waiver}"
            found.append(("waived_overlap", text))
    for benchmark in dict.fromkeys(one.benchmark for one in record.openings):
        times = sum(one.benchmark == benchmark for one in record.openings)
        if times > 1:
            text = f"{benchmark} was opened {times} times: each look makes a lucky result likelier."
            found.append(("several_openings", text))
    return [Caveat(kind=kind, text=text) for kind, text in dict.fromkeys(found)]


def _about_effect(evidence: Evidence, candidates: int) -> list[tuple[str, str]]:
    found = []
    if not evidence.knows_runs:
        text = "With one training run on a side, the interval covers which tasks were drawn, not the luck of training."
        found.append(("one_run", text))
    elif 1 in evidence.runs and max(evidence.runs) > 1:
        text = "One side is a single training run; its luck is taken to be as large as the other side shows."
        found.append(("one_run", text))
    if not evidence.tasks:
        found.append(("no_tasks", "Only totals were recorded, so the interval does not cover which tasks were drawn."))
    elif not evidence.knows_tasks:
        found.append(("few_tasks", "All tasks belong together, so the interval does not cover which were drawn."))
    elif evidence.tasks < FEW_TASKS:
        found.append(("few_tasks", f"{count(evidence.tasks, 'task')} are few for an interval."))
    if not evidence.paired:
        found.append(("other_tasks", "The two sides were measured on different rows, so tasks are not paired."))
    if candidates > 1:
        text = f"The sides are compared at their best, so the interval is corrected for {candidates} candidates."
        found.append(("multiple_comparisons", text))
    return found


def _about_choice(record: ExperimentRecord, choice: Choice) -> list[tuple[str, str]]:
    """What makes validation results a little too good, or hard to compare."""
    found = []
    ranked = [arm for arm in record.arms if any(arm.name in one.arms for one in choice.ranking)]
    kept_early = [arm for arm in ranked if arm.kept_step is not None and arm.kept_step < arm.validation[-1].step]
    if kept_early:
        text = "Checkpoints were chosen on the rows that they are measured on, so their values are a little too good."
        found.append(("kept_best", text))
    stopped = [arm for arm in ranked if arm.training == "stopped"]
    if stopped:
        names = listed([arm.name for arm in stopped], 3)
        found.append(("stopped", f"{count(len(stopped), 'arm')} stopped early and count as they were then: {names}."))
    if len(choice.ranking) > 1 and not record.benchmarks and not record.failed_benchmarks:
        text = (
            f"The best of {len(choice.ranking)} groups was chosen on the rows that it is measured on, so its own value "
            "is a little too good; no sealed test was opened."
        )
        found.append(("no_test", text))
    failures: Counter[str] = Counter()
    for one in [*(arm.kept for arm in ranked if arm.kept), *(result.measurement for result in record.benchmarks)]:
        failures.update(one.failures)
    if failures:
        reasons = ", ".join(f"{number} {kind.replace('_', ' ')}" for kind, number in failures.items())
        total = count(failures.total(), "answer")
        text = f"{total} of validation and tests came to nothing, which counts as 0: {reasons}."
        found.append(("ungraded", text))
    return found
