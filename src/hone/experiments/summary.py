"""A record in brief: what commands print with `--json`, and what agents read. `record.json` has the rest."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hone.algorithms.config import Config
from hone.experiments.config import Goal
from hone.experiments.records import ArmRecord, ExperimentRecord, State, Usage


class ArmSummary(Config):
    """One arm."""

    name: str
    """As the record has it."""
    group: str
    """What its repeats share."""
    cell: dict[str, Any]
    """Its values on the axes, by dotted path."""
    seed: int
    """Its own."""
    training: State
    """How far training is."""
    evaluation: State
    """How far its last measurement is; it may fail alone."""
    error: str | None
    """Why it failed, stopped or was skipped."""
    steps: int
    """Optimizer steps done."""
    total_steps: int
    """Of so many."""
    metrics: dict[str, float]
    """Validation, at the checkpoint that was kept; while it trains, at the newest measurement."""
    sampler_path: str | None
    """The kept checkpoint, to sample from."""
    usage: Usage
    """What it took."""


class Summary(Config):
    """One experiment."""

    id: str
    """Name and the hash of its configuration."""
    name: str
    """As the file says."""
    directory: str
    """Where its files are: `record.json`, `report.html`, checkpoints' paths, every measurement."""
    created: str
    """UTC, ISO 8601."""
    status: State
    """Of the whole."""
    hypothesis: str | None
    """The claim."""
    metric: str | None
    """What arms are chosen by."""
    goal: Goal
    """Which direction is better."""
    arms: list[ArmSummary]
    """In the order of the plan."""
    benchmarks: dict[str, dict[str, dict[str, float]]]
    """Metrics by benchmark and subject: the chosen arm, `baseline`, other models."""
    usage: Usage
    """Of all arms and tests; `seconds` are added up over arms that ran side by side."""
    conclusion: dict[str, Any] | None
    """The verdict, once there is one; `hone experiments conclude` says it in prose."""
    report: str | None
    """The page, once it is written."""


class Listing(Config):
    """Several experiments, newest first."""

    experiments: list[Summary]
    """Each in brief."""


class HistoryEntry(Config):
    """What one experiment asked, what came out, what it took."""

    id: str
    """Name and the hash of its configuration."""
    name: str
    """As the file says."""
    created: str
    """UTC, ISO 8601."""
    status: State
    """Of the whole."""
    description: str
    """As the file says."""
    tags: list[str]
    """As the file says."""
    parent: str | None
    """The experiment that it follows from."""
    hypothesis: str | None
    """The claim."""
    verdict: str
    """supported, refuted, inconclusive; none where nothing is claimed."""
    reason: str
    """Why this verdict, in a sentence."""
    metric: str | None
    """What arms are chosen by."""
    goal: Goal
    """Which direction is better."""
    effect: dict[str, Any] | None
    """`value` with the bounds `low` and `high`, `p`, and the groups compared, `better` and `than`."""
    best: dict[str, Any] | None
    """The chosen `arm` and its `group`, `cell`, `value` with bounds, groups it is `tied_with`, and `sampler_path`."""
    arms: dict[str, int]
    """How many: `all`, and by state."""
    tokens: int
    """Of all arms and tests."""
    cost: float
    """US dollars."""
    seconds: float
    """Added up over arms that ran side by side."""
    failures: list[dict[str, Any]]
    """Arms without a full result: `arm`, `phase`, `reason`."""
    caveats: list[str]
    """Kinds of reasons to doubt it."""
    valid: bool
    """Whether the result may be built upon."""
    next: list[str]
    """What to try next, as the record suggests."""


class History(Config):
    """A digest of past experiments, newest first."""

    experiments: list[HistoryEntry]
    """One for each."""


def summarise(record: ExperimentRecord, directory: Path) -> Summary:
    """The record that lies in `directory`."""
    report = directory / "report.html"
    benchmarks: dict[str, dict[str, dict[str, float]]] = {}
    for result in record.benchmarks:
        benchmarks.setdefault(result.benchmark, {})[result.subject] = dict(result.measurement.metrics)
    asked = [one.measurement for one in record.benchmarks] + [one.measurement for one in record.forgetting]
    return Summary(
        id=record.id,
        name=record.name,
        directory=str(directory),
        created=record.created,
        status=record.status,
        hypothesis=statement(record),
        metric=record.metric,
        goal=record.goal,
        arms=[_arm(arm) for arm in record.arms],
        benchmarks=benchmarks,
        usage=total([*(arm.usage for arm in record.arms), *(one.usage for one in asked)]),
        conclusion=record.conclusion,
        report=str(report) if report.exists() else None,
    )


def statement(record: ExperimentRecord) -> str | None:
    """The hypothesis in words."""
    said = record.config.get("hypothesis")
    return said.get("statement") if isinstance(said, dict) else said


def total(usages: Iterable[Usage]) -> Usage:
    """The sum of each part."""
    listed = list(usages)
    sums = {name: sum(getattr(one, name) for one in listed) for name in Usage.model_fields}
    return Usage(**sums)


def _arm(arm: ArmRecord) -> ArmSummary:
    measured = arm.kept or (arm.validation[-1] if arm.validation else None)
    shared = {name: getattr(arm, name) for name in ArmSummary.model_fields if name in ArmRecord.model_fields}
    return ArmSummary(**shared, metrics={} if measured is None else dict(measured.metrics))
