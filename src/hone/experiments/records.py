"""What an experiment leaves behind, as its files and the index hold it. Everything that is concluded rests on these."""

from __future__ import annotations

from typing import Any, Literal

from hone.algorithms.config import Config
from hone.experiments.config import Goal

State = Literal["waiting", "running", "done", "failed", "stopped", "skipped"]
"""`stopped`: ended early on purpose, with a usable result. `skipped`: never begun, for the reason in `error`."""


class Usage(Config):
    """What something took."""

    training_tokens: int = 0
    prefill_tokens: int = 0
    sample_tokens: int = 0
    cost: float = 0.0
    """US dollars, by the backend's prices."""
    seconds: float = 0.0


class TaskResult(Config):
    """One task's scores under one metric's kind of measuring."""

    task: str
    cluster: str = ""
    values: list[float]
    value: float | None = None
    """What the metric makes of `values` (`Metric.task_value`); without it their mean."""
    weight: float = 1.0
    facts: dict[str, Any] = {}

    @property
    def number(self) -> float:
        """The task's one number: intervals and paired tests rest on these."""
        return sum(self.values) / len(self.values) if self.value is None else self.value


class Measurement(Config):
    """One model at one moment on one set of rows."""

    step: int
    metrics: dict[str, float]
    tasks: dict[str, list[TaskResult]] = {}
    """By metric name: what paired tests and intervals rest on."""
    failures: dict[str, int] = {}
    """Answers that could not be graded, by reason; they count as 0."""
    usage: Usage = Usage()


class SampleRecord(Config):
    """One answer, for people."""

    task: str
    prompt: str
    before: str | None = None
    after: str | None = None
    score_before: float | None = None
    score_after: float | None = None


class ArmRecord(Config):
    """One configured run."""

    name: str
    """`GROUP` or, with repeats, `GROUP-s<seed>`."""
    group: str
    """What its repeats share."""
    cell: dict[str, Any] = {}
    """Its values on the axes, by dotted path."""
    tags: list[str] = []
    seed: int
    config: dict[str, Any] = {}
    """Resolved: what `matrix.PlannedArm.run` says."""
    config_hash: str
    training: State = "waiting"
    evaluation: State = "waiting"
    error: str | None = None
    """Why training or evaluation failed, stopped or was skipped."""
    steps: int = 0
    """Optimizer steps done."""
    total_steps: int = 0
    validation: list[Measurement] = []
    """In order of steps; the one of the kept checkpoint has `step == kept_step`."""
    kept_step: int | None = None
    state_path: str | None = None
    """The kept checkpoint, for training."""
    sampler_path: str | None = None
    """The kept checkpoint, for sampling."""
    usage: Usage = Usage()
    """Of training and validation."""

    @property
    def kept(self) -> Measurement | None:
        return next((one for one in self.validation if one.step == self.kept_step), None)


class Opening(Config):
    """The moment somebody looked at a sealed test set."""

    benchmark: str
    who: str
    when: str
    """UTC, ISO 8601."""
    why: str
    arms: list[str]
    fingerprint: str
    """Of the test rows."""
    overlap_waiver: str | None = None


class BenchmarkResult(Config):
    """One model on one sealed test set."""

    benchmark: str
    subject: str
    """An arm's name, `baseline`, or the name of an inference."""
    measurement: Measurement


class StageResult(Config):
    """A cell of the forgetting matrix."""

    arm: str
    after: str
    """The stage that was just learned; `start` before the first."""
    on: str
    """The stage that is measured."""
    measurement: Measurement


class ExperimentRecord(Config):
    """The whole."""

    id: str
    """Name and the hash of the resolved configuration."""
    name: str
    created: str
    status: State
    config: dict[str, Any]
    """Resolved."""
    config_hash: str
    data_fingerprints: dict[str, str] = {}
    code: dict[str, str] = {}
    """Versions of what computed it."""
    metric: str | None = None
    """What arms are chosen by."""
    goal: Goal = "max"
    bounds: dict[str, tuple[float | None, float | None]] = {}
    """By metric, the least and the most that it can be."""
    arms: list[ArmRecord] = []
    openings: list[Opening] = []
    benchmarks: list[BenchmarkResult] = []
    failed_benchmarks: dict[str, str] = {}
    """Those that lack results, and why; resumed, the experiment asks for them again."""
    forgetting: list[StageResult] = []
    samples: list[SampleRecord] = []
    conclusion: dict[str, Any] | None = None
    """As `conclusion.Conclusion` writes it."""
