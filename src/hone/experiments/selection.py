"""The best group of arms, and the repeat of it that is served. It is given arms, which hold validation results only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from hone.algorithms.evals.statistics import Estimate
from hone.errors import UserError
from hone.experiments.config import Goal
from hone.experiments.records import ArmRecord
from hone.experiments.statistics import LEVEL, Evidence, Scores, difference, direction, group_mean, scores


@dataclass(frozen=True)
class GroupResult:
    """The repeats of one arm, on the validation rows that all groups share."""

    group: str
    arms: tuple[str, ...]
    """Repeats that were measured."""
    lost: tuple[str, ...]
    """Repeats that were not: the mean rests on the others, which may be the lucky ones."""
    mean: Estimate
    evidence: Evidence
    scores: Scores = field(repr=False, compare=False)
    tied: bool = False
    """No significant difference from the best group."""


@dataclass(frozen=True)
class Choice:
    """What selection found."""

    group: str
    arm: str
    """The repeat to serve."""
    mean: Estimate
    ranking: tuple[GroupResult, ...]
    """Best first."""
    excluded: dict[str, str]
    """Groups without a result, and why."""
    same_tasks: bool
    """Whether all arms were measured on the same rows. If not, the means are of those that all share, if any."""

    @property
    def tied(self) -> tuple[str, ...]:
        """Groups that the evidence does not tell from the best one."""
        return tuple(one.group for one in self.ranking[1:] if one.tied)


def usable(arm: ArmRecord, metric: str) -> bool:
    """Whether an arm ended, by itself or stopped, with a measurement of what it kept."""
    return arm.training in ("done", "stopped") and arm.kept is not None and metric in arm.kept.metrics


def choose(arms: Sequence[ArmRecord], metric: str, goal: Goal) -> Choice:
    """The group with the best mean over its repeats, and one repeat of it.

    Of equal means the cheaper group wins, then the one that the file names first. The repeat that is served, and opens
    the test set, is the one nearest to the group's median on validation: tested, it says what the configuration gives,
    whereas the luckiest repeat would say what luck gives. Of two as near the better is taken.

    Groups are tied with the best if an interval of their difference, corrected for the number of groups, holds 0.

    Raises:
        UserError: no arm has a result by the metric; it says why for each group.
    """
    groups: dict[str, list[ArmRecord]] = {}
    for arm in arms:
        groups.setdefault(arm.group, []).append(arm)
    measured = {name: found for name, repeats in groups.items() if (found := _measured(repeats, metric)) is not None}
    excluded = {name: _why(repeats, metric) for name, repeats in groups.items() if name not in measured}
    if not measured:
        reasons = "; ".join(f"{name}: {why}" for name, why in excluded.items()) or "there are no arms"
        raise UserError(f"no arm can be chosen by {metric}: {reasons}")
    measured, same_tasks = _on_shared_tasks(measured)

    ranked = sorted(
        (_result(groups[name], metric, found) for name, found in measured.items()),
        key=lambda one: (-direction(goal) * one.mean.mean, _tokens(groups[one.group])),
    )
    best = ranked[0]
    ranking = (best, *(_with_tie(best, one, goal, len(ranked) - 1) for one in ranked[1:]))
    return Choice(best.group, _served(groups[best.group], best, goal), best.mean, ranking, excluded, same_tasks)


def _measured(repeats: Sequence[ArmRecord], metric: str) -> Scores | None:
    return scores([arm.kept for arm in repeats if arm.kept is not None and usable(arm, metric)], metric)


def _why(repeats: Sequence[ArmRecord], metric: str) -> str:
    """Why a group has no result."""
    failed = next((arm for arm in repeats if arm.error), None)
    if failed is not None:
        return f"{failed.training if failed.training != 'done' else 'evaluation failed'}: {failed.error}"
    kept = next((arm.kept for arm in repeats if arm.kept is not None), None)
    if kept is not None:
        return f"not measured by {metric}, only by {', '.join(kept.metrics) or 'nothing'}"
    return f"training is {repeats[0].training}, without a measurement"


def _on_shared_tasks(measured: dict[str, Scores]) -> tuple[dict[str, Scores], bool]:
    """Means of other rows are not comparable, so all are taken on the rows that all share."""
    first, *others = measured.values()
    if all(set(one.tasks) == set(first.tasks) for one in others):
        return measured, True
    known = [set(one.tasks) for one in others]
    shared = [task for task in first.tasks if all(task in tasks for tasks in known)]
    return ({name: one.on(shared) for name, one in measured.items()} if shared else measured), False


def _result(repeats: Sequence[ArmRecord], metric: str, found: Scores) -> GroupResult:
    arms = tuple(arm.name for arm in repeats if usable(arm, metric))
    lost = tuple(arm.name for arm in repeats if arm.name not in arms)
    evidence = group_mean(found)
    return GroupResult(repeats[0].group, arms, lost, evidence.estimate(), evidence, found)


def _with_tie(best: GroupResult, other: GroupResult, goal: Goal, comparisons: int) -> GroupResult:
    interval = difference(best.scores, other.scores, goal).estimate(1 - (1 - LEVEL) / comparisons)
    return GroupResult(
        other.group, other.arms, other.lost, other.mean, other.evidence, other.scores, tied=interval.low <= 0
    )


def _tokens(repeats: Sequence[ArmRecord]) -> float:
    """What a repeat took, on average."""
    used = [arm.usage.training_tokens + arm.usage.prefill_tokens + arm.usage.sample_tokens for arm in repeats]
    return sum(used) / len(used)


def _served(repeats: Sequence[ArmRecord], best: GroupResult, goal: Goal) -> str:
    share_T = best.scores.weights_T / best.scores.weights_T.sum()
    values = dict(zip(best.arms, (float(value) for value in best.scores.values_ST @ share_T), strict=True))
    middle = median(values.values())
    return min(values, key=lambda name: (round(abs(values[name] - middle), 12), -direction(goal) * values[name]))
