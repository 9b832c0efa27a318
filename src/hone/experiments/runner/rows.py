"""The rows that arms share, read once: what is trained on, what is measured, and their fingerprints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hone.errors import UserError
from hone.experiments.config import BenchmarkConfig, DataConfig, RunConfig, Spec, ValidationConfig
from hone.experiments.data.fingerprint import fingerprint
from hone.experiments.data.load import RowSource, Sides, held_out_rows, load_sides, training_rows
from hone.experiments.data.parse import RowError, parse
from hone.experiments.data.rows import ChatRow, RowKind, StandardRow, TaskRow, VerifierChoice
from hone.experiments.kinds import plugins
from hone.experiments.kinds.contract import Metric
from hone.experiments.kinds.metrics import metric_name, metric_spec
from hone.experiments.runner.directory import identity

if TYPE_CHECKING:
    from hone.algorithms.graders.grade import Grader
    from hone.algorithms.messages import Message


@dataclass(frozen=True)
class MeasuredRows:
    """What a model is measured on, and by what."""

    metrics: Mapping[str, Metric[Any]]
    """By name, in order; the first is what arms are chosen by unless the file says otherwise."""
    tasks: Sequence[TaskRow] = ()
    """For metrics of sampled answers."""
    graders: Sequence[Grader] = ()
    examples: Sequence[StandardRow] = ()
    """Conversations, for metrics of likelihood."""
    pairs: Sequence[StandardRow] = ()
    """Preferences, for metrics of those."""
    samples: int = 1
    max_tokens: int = 256
    temperature: float = 1.0


class Rows:
    def __init__(self, home: Path) -> None:
        self._home = home
        self._sides: dict[str, Sides] = {}
        self._fingerprints: dict[str, str] = {}
        self._training: dict[str, Sequence[StandardRow]] = {}
        self._measured: dict[str, MeasuredRows] = {}
        self._graders: dict[str, Grader] = {}

    def trained(self, run: RunConfig) -> Sides:
        """The sides of what the run is trained on."""
        return self._load(trained_on(run), own_validation=run.validation.data is not None)

    def validated(self, run: RunConfig) -> RowSource:
        """What the run is measured on, unparsed."""
        if run.validation.data is None:
            return self.trained(run).validation
        return self._load(run.validation.data, own_validation=True).train

    def fingerprints(self, run: RunConfig) -> dict[str, str]:
        """Of everything that an arm learns from and is measured on."""
        sources = {"train": self.trained(run).train, "validation": self.validated(run)}
        return {name: self._fingerprint(source) for name, source in sources.items()}

    def _load(self, data: DataConfig, *, own_validation: bool) -> Sides:
        key = f"{_key(data)} {own_validation}"
        if key not in self._sides:
            self._sides[key] = load_sides(data, self._home, own_validation=own_validation)
        return self._sides[key]

    def _fingerprint(self, source: RowSource) -> str:
        key = f"{_key(source.config)} {source.side}"
        if key not in self._fingerprints:
            self._fingerprints[key] = fingerprint(source)
        return self._fingerprints[key]

    def training(self, run: RunConfig, kind: RowKind) -> Sequence[StandardRow]:
        """Rows of the kind, in the order for the run's seed.

        Raises:
            RowError: some are not of the kind; it names their places.
        """
        data = trained_on(run)
        own = run.validation.data is not None
        key = identity(data.model_dump(mode="json"), kind, own, run.seed if data.shuffle or data.mixture else None)
        if key not in self._training:
            self._training[key] = training_rows(self.trained(run), kind, seed=run.seed)
        return self._training[key]

    def graders(self, rows: Sequence[StandardRow], fallback: Spec | None) -> list[Grader]:
        """Of each row: its own verifier, or that of the file."""
        return [self._grader(row, fallback) for row in rows if isinstance(row, TaskRow)]

    def measured(self, run: RunConfig) -> MeasuredRows:
        """What an arm is validated on; the same for all arms with the same data."""
        key = identity(run.validation.model_dump(mode="json"), run.data and run.data.model_dump(mode="json"))
        if key not in self._measured:
            data = run.validation.data
            verifier = (data or trained_on(run)).verifier
            self._measured[key] = self.measured_rows(self.validated(run), run.validation, verifier)
        return self._measured[key]

    def measured_rows(self, source: RowSource, config: ValidationConfig, verifier: Spec | None) -> MeasuredRows:
        names = list(config.metrics) or ["mean_reward" if _is_graded(source, verifier) else "nll"]
        metrics = named_metrics(names)

        def rows(measures: str, kind: RowKind) -> Sequence[StandardRow]:
            if all(metric.measures != measures for metric in metrics.values()):
                return []
            return held_out_rows(source, kind, limit=config.limit)

        tasks = [row for row in rows("answers", "task") if isinstance(row, TaskRow)]
        return MeasuredRows(
            metrics=metrics,
            tasks=tasks,
            graders=self.graders(tasks, verifier),
            examples=rows("likelihood", "chat"),
            pairs=rows("preferences", "preference"),
            samples=config.samples,
            max_tokens=config.max_tokens,
            temperature=config.temperature,
        )

    def sealed_rows(self, tasks: Sequence[TaskRow], benchmark: BenchmarkConfig) -> MeasuredRows:
        """Of a test set that was opened."""
        metrics = named_metrics(benchmark.metrics)
        measures = {metric.measures for metric in metrics.values()}
        if "preferences" in measures:
            raise UserError(
                f"the benchmark {benchmark.name!r} has tasks, and a metric of preferences cannot be had of them"
            )
        return MeasuredRows(
            metrics=metrics,
            tasks=tasks if "answers" in measures else [],
            graders=self.graders(tasks, benchmark.verifier) if "answers" in measures else [],
            examples=[_answered(task) for task in tasks] if "likelihood" in measures else [],
            samples=benchmark.samples,
            max_tokens=benchmark.max_tokens,
            temperature=benchmark.temperature,
        )

    def _grader(self, row: TaskRow, fallback: Spec | None) -> Grader:
        choice = row.verifier or (VerifierChoice(fallback.kind, fallback.params) if fallback else None)
        if choice is None:
            raise UserError(
                f"{row.place} has no verifier, so its answers cannot be graded; "
                "give the row a `verifier`, or one for all rows in `data.verifier`"
            )
        key = identity(choice.kind, dict(choice.params))
        if key not in self._graders:
            self._graders[key] = plugins.verifiers.make(choice.kind, choice.params).grader()
        return self._graders[key]


def named_metrics(specs: Sequence[Spec | str]) -> dict[str, Metric[Any]]:
    """By what each is called in results."""
    made = {}
    for one in specs:
        spec = metric_spec(one)
        made[metric_name(one)] = plugins.metrics.make(spec.kind, spec.params)
    return made


def trained_on(run: RunConfig) -> DataConfig:
    if run.data is None:
        raise UserError("the run has no `data`")
    return run.data


def _is_graded(source: RowSource, verifier: Spec | None) -> bool:
    """Whether the first row is a task whose answers can be graded."""
    for raw in source:
        try:
            row = parse(raw, "task")
        except RowError:
            return False
        return isinstance(row, TaskRow) and (row.verifier is not None or verifier is not None)
    return False


def _answered(task: TaskRow) -> ChatRow:
    """The task with its right answer, whose likelihood is asked for."""
    if not task.gold:
        raise UserError(f"{task.place} has no right answer, so there is no likelihood of one; choose another metric")
    messages: list[Message] = [*task.prompt, {"role": "assistant", "content": task.gold}]
    return ChatRow(task.id, task.place, messages)


def _key(data: DataConfig) -> str:
    """Of what is read: shuffling and limits come after."""
    return identity(data.model_dump(mode="json", exclude={"shuffle", "limit", "verifier"}))
