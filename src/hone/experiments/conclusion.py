"""What an experiment shows: a verdict on its hypothesis, the best arm, what to doubt and what to try next.

It reads the record only, so the same record gives the same conclusion on any day.

A claim is supported if the whole interval of the effect lies above the margin, refuted if all of it lies below, and
inconclusive otherwise. With several groups on a side the sides are compared at their best, and the interval is
corrected for the number of candidates. All of it is validation; the sealed test is told beside it, and may only take
a support back.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from hone.algorithms.config import Config
from hone.errors import UserError
from hone.experiments import next_steps, prose
from hone.experiments.caveats import Caveat, doubts
from hone.experiments.config import Goal, HypothesisConfig
from hone.experiments.hypothesis import BASELINE, HOW, Claim, UnclearClaim, facts, understand
from hone.experiments.interval import Interval, interval, possible
from hone.experiments.next_steps import Suggestion
from hone.experiments.records import ExperimentRecord, Usage
from hone.experiments.sealed_tests import TestResult, baseline_of, test_results
from hone.experiments.selection import Choice, GroupResult, choose
from hone.experiments.statistics import (
    LEVEL,
    BestDifference,
    Evidence,
    Scores,
    difference,
    difference_of_best,
    group_mean,
    scores,
)
from hone.experiments.summary import total
from hone.experiments.wording import number

Verdict = Literal["supported", "refuted", "inconclusive", "none"]
"""`none`: there is no hypothesis."""


class Side(Config):
    """One side of what is compared."""

    groups: list[str]
    """Those that were candidates."""
    best: str
    """The one that stands for them; `baseline`: the model without training."""
    arms: list[str]
    """The repeats of it that were measured."""
    value: float


class RankedGroup(Config):
    """A group of repeats, by its mean on validation."""

    group: str
    value: float
    interval: Interval
    runs: int
    tasks: int
    lost: list[str]
    """Repeats without a result."""
    tied: bool
    """Not told apart from the best group."""


class BestArm(Config):
    """What was chosen, on validation."""

    group: str
    arm: str
    """The repeat that is served: the one nearest to the group's median."""
    value: float
    """The group's mean."""
    interval: Interval
    runs: int
    tasks: int
    tied_with: list[str]
    sampler_path: str | None


class Failure(Config):
    """An arm without a full result."""

    arm: str
    phase: Literal["training", "evaluation", "skipped"]
    reason: str


class Conclusion(Config):
    """All numbers are recorded or computed from recorded ones."""

    experiment: str
    verdict: Verdict
    statement: str | None = None
    """The hypothesis."""
    reason: str
    """Why this verdict, in a sentence."""
    metric: str | None = None
    goal: Goal = "max"
    margin: float = 0.0
    effect: float | None = None
    """How much better the first side is, in the metric's unit; positive is better, whichever way the goal points."""
    interval: Interval | None = None
    level: float = LEVEL
    p: float | None = None
    """Against an effect of exactly the margin, two-sided, corrected as the interval is."""
    candidates: int = 0
    """How many groups, on the larger side, the interval is corrected for."""
    evidence: Literal["validation", "test"] | None = None
    """Where the effect was measured."""
    better: Side | None = None
    than: Side | None = None
    runs: list[int] = []
    """Training runs on each side."""
    tasks: int = 0
    best: BestArm | None = None
    ranking: list[RankedGroup] = []
    tests: list[TestResult] = []
    failures: list[Failure] = []
    usage: Usage = Usage()
    """Of all arms and tests together; seconds add up, though arms may have run side by side."""
    caveats: list[Caveat] = []
    next: list[Suggestion] = []

    def as_text(self) -> str:
        """In prose, for people."""
        return "\n\n".join(part for part in prose.paragraphs(self) if part)


@dataclass(frozen=True)
class _Effect:
    """A difference of two sides, and what stood on them."""

    best: BestDifference
    evidence: Evidence
    better: Side
    than: Side
    where: Literal["validation", "test"]


def recorded(record: ExperimentRecord) -> Conclusion:
    """The conclusion that the record holds; drawn anew where there is none, or one that an earlier version wrote."""
    if record.conclusion is not None:
        with contextlib.suppress(ValidationError):
            return Conclusion.model_validate(record.conclusion)
    return conclude(record)


def conclude(record: ExperimentRecord) -> Conclusion:
    """The verdict on the record's hypothesis, with everything that it rests on."""
    hypothesis = _hypothesis(record)
    statement = hypothesis if isinstance(hypothesis, str) else hypothesis.statement if hypothesis else None
    common: dict[str, Any] = {
        "experiment": record.name,
        "statement": statement,
        "metric": record.metric,
        "goal": record.goal,
        "failures": _failures(record),
        "tests": test_results(record),
        "usage": _usage(record),
    }
    verdict: Verdict = "inconclusive" if hypothesis else "none"
    if record.metric is None:
        reason = "No metric was recorded to compare arms by."
        return Conclusion(verdict=verdict, reason=reason, next=next_steps.mend_failures(record), **common)
    try:
        choice = choose(record.arms, record.metric, record.goal)
    except UserError as error:
        reason = f"There is nothing to compare: {error}."
        return Conclusion(verdict=verdict, reason=reason, next=next_steps.mend_failures(record), **common)

    claim, effect, why = _effect(record, hypothesis, choice)
    if effect is not None and claim is not None:
        verdict, why = _verdict(effect, claim.margin, record.metric)
    caveats = doubts(record, choice, effect.evidence if effect else None, effect.best.candidates if effect else 1)
    if verdict == "supported" and claim is not None and claim.over_baseline:
        contrary = next((one for one in common["tests"] if _contradicts(one, record, choice, claim)), None)
        if contrary is not None:
            verdict = "inconclusive"
            why = (
                f"validation supports it, but on the sealed {contrary.benchmark} {contrary.subject} was worse than "
                f"without training, by {number(abs(contrary.gain or 0.0))}."
            )
            caveats.append(Caveat(kind="test_disagrees", text=_sentence(why)))
    measured: dict[str, Any] = {}
    if effect is not None:
        measured = {
            "effect": effect.best.value,
            "interval": interval(effect.best.low, effect.best.high),
            "p": effect.best.p_value,
            "candidates": effect.best.candidates,
            "evidence": effect.where,
            "better": effect.better,
            "than": effect.than,
            "runs": list(effect.evidence.runs),
            "tasks": effect.evidence.tasks,
            "margin": claim.margin if claim else 0.0,
        }
    return Conclusion(
        verdict=verdict,
        reason=_sentence(why),
        best=_best(record, choice),
        ranking=[_ranked(record, one) for one in choice.ranking],
        caveats=caveats,
        next=_next(record, choice, verdict, effect, claim),
        **measured,
        **common,
    )


def _hypothesis(record: ExperimentRecord) -> HypothesisConfig | str | None:
    written = record.config.get("hypothesis")
    return HypothesisConfig.model_validate(written) if isinstance(written, dict) else written or None


def _effect(
    record: ExperimentRecord, hypothesis: HypothesisConfig | str | None, choice: Choice
) -> tuple[Claim | None, _Effect | None, str]:
    """The claim as it was understood, the measured effect, and why there is none of either."""
    if hypothesis is None:
        return None, _without_hypothesis(record, choice), "There is no hypothesis to judge."
    try:
        claim = understand(hypothesis, [facts(arm) for arm in record.arms])
    except UnclearClaim as error:
        return None, _without_hypothesis(record, choice), f"The hypothesis was not judged: {error}."
    results = {one.group: one for one in choice.ranking}
    better = [results[group] for group in claim.better if group in results]
    than = [results[group] for group in claim.than if group in results]
    for side, groups, found in (("better", claim.better, better), ("other", claim.than, than)):
        if groups and not found:
            reasons = "; ".join(f"{group}: {choice.excluded.get(group, 'no result')}" for group in groups)
            return claim, None, f"No arm on the {side} side of the hypothesis has a result ({reasons})."
    if not claim.over_baseline:
        return claim, _compared(better, than, record.goal, claim.margin), ""
    effect = _over_baseline(record, better, claim.margin) or _over_tested_baseline(record, choice, claim)
    if effect is None:
        return claim, None, (
            "The model without training was not measured: validation before the first step does it "
            "(`validation.every` of 1 or more), or a benchmark with `baseline: true`."
        )  # fmt: skip
    return claim, effect, ""


def _without_hypothesis(record: ExperimentRecord, choice: Choice) -> _Effect | None:
    """The best against the model without training; where that was not measured, against the others."""
    effect = _over_baseline(record, choice.ranking, 0.0)
    if effect is None and len(choice.ranking) > 1:
        return _compared(choice.ranking[:1], choice.ranking[1:], record.goal, 0.0, len(choice.ranking) - 1)
    return effect


def _compared(
    better: Sequence[GroupResult], than: Sequence[GroupResult], goal: Goal, margin: float, choices: int = 1
) -> _Effect:
    pairs = [[difference(one.scores, other.scores, goal) for other in than] for one in better]
    best = difference_of_best(pairs, margin, choices=choices)
    evidence = pairs[best.better][best.than]
    return _Effect(best, evidence, _side(better, best.better), _side(than, best.than), "validation")


def _over_baseline(record: ExperimentRecord, better: Sequence[GroupResult], margin: float) -> _Effect | None:
    """Against what the same arms measured before their first step."""
    baselines = [_before_training(record, one) for one in better]
    if any(one is None for one in baselines):
        return None
    known = [one for one in baselines if one is not None]
    pairs = [[difference(one.scores, base, record.goal)] for one, base in zip(better, known, strict=True)]
    best = difference_of_best(pairs, margin)
    base = known[best.better]
    than = Side(groups=[BASELINE], best=BASELINE, arms=[], value=group_mean(base).value)
    return _Effect(best, pairs[best.better][0], _side(better, best.better), than, "validation")


def _before_training(record: ExperimentRecord, group: GroupResult) -> Scores | None:
    """Step 0 of the group's arms; else of other arms of the same model, which begin from the same weights."""
    own = [arm for arm in record.arms if arm.name in group.arms]
    model = own[0].config.get("model")
    like = [arm for arm in record.arms if arm.config.get("model") == model]
    for arms in (own, like):
        begun = [one for arm in arms for one in arm.validation if one.step == 0]
        if begun:
            return scores(begun, record.metric or "", trained=False)
    return None


def _over_tested_baseline(record: ExperimentRecord, choice: Choice, claim: Claim) -> _Effect | None:
    """Where validation has no baseline, the sealed test of the chosen arm may."""
    if choice.group not in claim.better:
        return None
    metric = record.metric or ""
    for result in record.benchmarks:
        base = baseline_of(record, result)
        if result.subject != choice.arm or base is None:
            continue
        tested = scores([result.measurement], metric)
        untrained = scores([base.measurement], metric, trained=False)
        if tested is None or untrained is None:
            continue
        evidence = difference(tested, untrained, record.goal)
        better = Side(groups=list(claim.better), best=choice.group, arms=[choice.arm], value=group_mean(tested).value)
        than = Side(groups=[BASELINE], best=BASELINE, arms=[], value=group_mean(untrained).value)
        return _Effect(difference_of_best([[evidence]], claim.margin), evidence, better, than, "test")
    return None


def _verdict(effect: _Effect, margin: float, metric: str) -> tuple[Verdict, str]:
    best = effect.best
    above = f"a margin of {number(margin)}" if margin else "0"
    if best.low > margin:
        return "supported", f"The whole interval of the effect on {metric} lies above {above}."
    if best.high < margin:
        return "refuted", f"The whole interval of the effect on {metric} lies below {above}."
    if math.isinf(best.low):
        return "inconclusive", f"With so few runs and tasks nothing bounds the effect on {metric}."
    return "inconclusive", f"The interval of the effect on {metric} holds {above}, so either may be true."


def _contradicts(test: TestResult, record: ExperimentRecord, choice: Choice, claim: Claim) -> bool:
    """Whether a test shows that the chosen arm, if the claim is about it, is worse than without training."""
    if test.subject != choice.arm or choice.group not in claim.better or test.metric != record.metric:
        return False
    if test.gain_interval is None or test.gain_interval.low is None or test.gain_interval.high is None:
        return False
    return test.gain_interval.high < 0 if record.goal == "max" else test.gain_interval.low > 0


def _side(groups: Sequence[GroupResult], best: int) -> Side:
    one = groups[best]
    return Side(groups=[group.group for group in groups], best=one.group, arms=list(one.arms), value=one.mean.mean)


def _ranked(record: ExperimentRecord, one: GroupResult) -> RankedGroup:
    return RankedGroup(
        group=one.group,
        value=one.mean.mean,
        interval=possible(record, record.metric, one.mean),
        runs=len(one.arms),
        tasks=one.evidence.tasks,
        lost=list(one.lost),
        tied=one.tied,
    )


def _best(record: ExperimentRecord, choice: Choice) -> BestArm:
    served = next(arm for arm in record.arms if arm.name == choice.arm)
    return BestArm(
        group=choice.group,
        arm=choice.arm,
        value=choice.mean.mean,
        interval=possible(record, record.metric, choice.mean),
        runs=len(choice.ranking[0].arms),
        tasks=choice.ranking[0].evidence.tasks,
        tied_with=list(choice.tied),
        sampler_path=served.sampler_path,
    )


def _failures(record: ExperimentRecord) -> list[Failure]:
    phases: dict[str, Literal["training", "evaluation", "skipped"]] = {}
    for arm in record.arms:
        if arm.training == "failed":
            phases[arm.name] = "training"
        elif arm.training == "skipped":
            phases[arm.name] = "skipped"
        elif arm.evaluation == "failed":
            phases[arm.name] = "evaluation"
    reasons = {arm.name: arm.error or "no reason was recorded" for arm in record.arms}
    return [Failure(arm=name, phase=phase, reason=reasons[name]) for name, phase in phases.items()]


def _usage(record: ExperimentRecord) -> Usage:
    measured = [one.measurement for one in record.benchmarks] + [one.measurement for one in record.forgetting]
    return total([*(arm.usage for arm in record.arms), *(one.usage for one in measured)])


def _next(
    record: ExperimentRecord, choice: Choice, verdict: Verdict, effect: _Effect | None, claim: Claim | None
) -> list[Suggestion]:
    found = next_steps.mend_failures(record)
    if verdict == "inconclusive" and claim is None:
        found.append(Suggestion(kind="hypothesis", text=f"To have the hypothesis judged, {HOW}."))
    if verdict == "inconclusive" and effect is not None and claim is not None:
        found += next_steps.make_sure(effect.evidence, claim.margin, effect.best.candidates)
    elif verdict in ("none", "inconclusive"):
        found += next_steps.part_ties(record, choice)
    found += next_steps.find_harder_tasks(choice)
    found += next_steps.extend_axes(record, choice)
    found += next_steps.watch_the_curve(record, choice, record.metric or "")
    return found


def _sentence(text: str) -> str:
    """With a capital and one full stop."""
    return f"{text[:1].upper()}{text[1:]}".rstrip(".") + "."
