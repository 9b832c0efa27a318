"""What to try next, from recorded numbers only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hone.algorithms.config import Config
from hone.experiments.config import Goal
from hone.experiments.records import ExperimentRecord, Measurement
from hone.experiments.selection import Choice
from hone.experiments.statistics import LEVEL, POWER, Evidence, difference, direction, group_mean, plan, scores
from hone.experiments.wording import count, listed, number


class Suggestion(Config):
    """One thing to do."""

    kind: str
    """`failures`, `runs`, `tasks`, `runs_and_tasks`, `axis`, `longer`, `overfitting`, `harder_tasks`."""
    text: str
    values: dict[str, Any] = {}
    """Its numbers, for programs."""


def mend_failures(record: ExperimentRecord) -> list[Suggestion]:
    """Arms that failed, by reason, the most frequent first."""
    by_reason: dict[str, list[str]] = {}
    for arm in record.arms:
        if "failed" in (arm.training, arm.evaluation):
            by_reason.setdefault(arm.error or "no reason was recorded", []).append(arm.name)
    return [
        Suggestion(
            kind="failures",
            text=f"Mend what failed {count(len(arms), 'arm')} ({listed(arms, 3)}): {reason}",
            values={"arms": arms, "reason": reason},
        )
        for reason, arms in sorted(by_reason.items(), key=lambda one: -len(one[1]))
    ]


def make_sure(evidence: Evidence, margin: float, candidates: int) -> list[Suggestion]:
    """More runs or tasks, where an interval is too wide to decide."""
    runs = max(evidence.runs)
    if not evidence.knows_runs:
        return [
            Suggestion(
                kind="runs",
                text="Repeat every arm with three seeds or more (`repeats.n: 3`): one run does not show its own luck.",
                values={"repeats.n": 3},
            )
        ]
    needed = plan(evidence, margin, candidates)
    gap = abs(evidence.value - margin)
    size = f"a difference of {number(gap)}{f' from the margin of {number(margin)}' if margin else ''}"
    chance = f"if it is as large as it looks, {size} would show {POWER:.0%} of the time"
    found = []
    if needed.runs is not None and needed.runs > runs:
        found.append(
            Suggestion(
                kind="runs",
                text=f"With {needed.runs} seeds in place of {runs}, {chance} (`repeats.n: {needed.runs}`).",
                values={"repeats.n": needed.runs},
            )
        )
    if needed.tasks is not None and needed.tasks > evidence.tasks:
        found.append(
            Suggestion(
                kind="tasks",
                text=f"With {needed.tasks:,} validation tasks in place of {evidence.tasks:,}, {chance} "
                f"(`validation.limit: {needed.tasks}`).",
                values={"validation.limit": needed.tasks},
            )
        )
    if not found and needed.times is not None and needed.times > 1:
        both = {"repeats.n": needed.times * runs, "validation.limit": needed.times * evidence.tasks}
        text = f"With {both['repeats.n']} seeds and {both['validation.limit']:,} validation tasks, {chance}."
        found.append(Suggestion(kind="runs_and_tasks", text=text, values=both))
    return found


def extend_axes(record: ExperimentRecord, choice: Choice) -> list[Suggestion]:
    """Numeric axes on whose last value the best group stands, and the value that would come next."""
    cells = {arm.group: arm.cell for arm in record.arms}
    best = cells[choice.group]
    measured = {one.group for one in choice.ranking}
    found = []
    for path, value in best.items():
        rest = {key: other for key, other in best.items() if key != path}
        line = {
            cell[path]: group
            for group, cell in cells.items()
            if group in measured and _number(cell.get(path)) and {k: v for k, v in cell.items() if k != path} == rest
        }
        values = sorted(line)
        if not _number(value) or len(values) < 2 or value not in (values[0], values[-1]):
            continue
        beyond = _next(values if value == values[-1] else values[::-1])
        if beyond is None:
            continue
        inner = line[values[1] if value == values[0] else values[-2]]
        sure = "" if inner not in choice.tied else f", though it is not told apart from {inner} yet"
        end = "highest" if value == values[-1] else "lowest"
        text = f"The best value of {path}, {value:g}, is the {end} that was tried{sure}: try {beyond:g}."
        found.append(Suggestion(kind="axis", text=text, values={"axis": path, "value": beyond}))
    return found


def watch_the_curve(record: ExperimentRecord, choice: Choice, metric: str) -> list[Suggestion]:
    """Whether the best group was still improving at its last step, or had become worse."""
    arms = [arm for arm in record.arms if arm.name in choice.ranking[0].arms]
    by_step = [{one.step: one for one in arm.validation if metric in one.metrics} for arm in arms]
    steps = sorted(set.intersection(*(set(one) for one in by_step)))
    if len(steps) < 3 or any(arm.training == "stopped" for arm in arms):
        return []
    last = steps[-1]
    sign = direction(record.goal)
    best = max(steps, key=lambda step: sign * sum(one[step].metrics[metric] for one in by_step))
    if best == last:
        earlier = max(steps[0], min((step for step in steps if 3 * step >= 2 * last), default=steps[-2]))
        earlier = earlier if earlier < last else steps[-2]
        gain = _change(by_step, earlier, last, metric, record.goal)
        if gain is not None and gain.estimate().low > 0:
            text = (
                f"{choice.group} was still improving at its last step: {metric} by {number(gain.value)} from step "
                f"{earlier} to {last}. Train it for longer, to step {2 * last} say."
            )
            return [Suggestion(kind="longer", text=text, values={"steps": 2 * last})]
        return []
    loss = _change(by_step, last, best, metric, record.goal)
    level = 1 - (1 - LEVEL) / (len(steps) - 1)  # the best of so many moments
    if loss is None or loss.estimate(level).low <= 0:
        return []
    text = f"{choice.group} was best at step {best} and then became worse, by {number(loss.value)} at step {last}. "
    kept_last = any(arm.kept_step == last for arm in arms)
    advice = "Keep the best checkpoint (`validation.keep: best`)" if kept_last else "The best checkpoint was kept"
    values: dict[str, Any] = {"best_step": best, "last_step": last}
    if kept_last:
        values["validation.keep"] = "best"
    return [
        Suggestion(
            kind="overfitting", text=f"{text}{advice}; fewer steps, or `stop.patience`, save time.", values=values
        )
    ]


def find_harder_tasks(choice: Choice) -> list[Suggestion]:
    """Where all of the best groups' tasks have full marks, nothing can be told apart any more."""
    solved = [one.group for one in choice.ranking if one.scores.tasks and (one.scores.values_ST == 1).all()]
    if choice.group not in solved:
        return []
    text = f"All validation tasks are solved by {listed(solved)}: only harder ones can show a difference."
    return [Suggestion(kind="harder_tasks", text=text, values={"groups": solved})]


def part_ties(record: ExperimentRecord, choice: Choice) -> list[Suggestion]:
    """What would tell the best group from the next one."""
    if len(choice.ranking) < 2 or not choice.ranking[1].tied:
        return []
    best, second = choice.ranking[:2]
    evidence = difference(best.scores, second.scores, record.goal)
    return [
        one.model_copy(update={"text": f"{best.group} and {second.group} are not told apart. {one.text}"})
        for one in make_sure(evidence, 0.0, len(choice.ranking) - 1)
    ]


def _change(
    by_step: Sequence[Mapping[int, Measurement]], before: int, after: int, metric: str, goal: Goal
) -> Evidence | None:
    """How much better the same runs were at a later step: paired by run and by task."""
    later = scores([one[after] for one in by_step], metric)
    sooner = scores([one[before] for one in by_step], metric)
    if later is None or sooner is None or later.tasks != sooner.tasks:
        return None
    return group_mean(replace(later, values_ST=direction(goal) * (later.values_ST - sooner.values_ST)))


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _next(values: Sequence[float]) -> float | None:
    """What follows the last: by its factor to the one before where all are positive and far apart, else by its step."""
    before, last = values[-2:]
    if before > 0 and last > 0 and not 2 / 3 < last / before < 3 / 2:
        beyond = last * (last / before)
    else:
        beyond = last + (last - before)
    if all(isinstance(value, int) for value in values):
        beyond = round(beyond)
        return beyond if beyond != last and (beyond > 0 or last <= 0) else None
    if min(values) > 0 >= beyond:
        return None
    return float(np.format_float_positional(beyond, precision=3, fractional=False))
