"""Data sets learned one after another by one adapter, and what each stage makes of all of them.

Every stage begins with the weights of the one before it. What an arm is measured on are the rows of all stages
together, so one measurement at the end of a stage has a whole row of the forgetting matrix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hone.errors import UserError
from hone.experiments.config import ContinualConfig, RunConfig
from hone.experiments.kinds import plugins
from hone.experiments.kinds.algorithms.sequence import Phases
from hone.experiments.kinds.contract import Algorithm, NoParams, Training
from hone.experiments.records import Measurement, StageResult, TaskResult
from hone.experiments.runner.rows import MeasuredRows, Rows, trained_on

if TYPE_CHECKING:
    from hone.algorithms.graders.grade import Grader
    from hone.algorithms.run_directory import Checkpoint
    from hone.experiments.data.rows import StandardRow
    from hone.experiments.runner.arm import Arm
    from hone.experiments.runner.validation import Validation

START = "start"


def stage_runs(run: RunConfig, continual: ContinualConfig | None) -> list[RunConfig]:
    """The run on the data of each stage; the run alone if it has none."""
    if continual is None:
        return [run]
    if run.stop.patience is not None or run.stop.halving is not None:
        raise UserError("`continual` trains every stage to its end; leave `stop` out")
    return [run.model_copy(update={"data": stage.data}) for stage in continual.stages]


class Stages(Phases[NoParams]):
    """The run's algorithm, once for each stage."""

    def __init__(self, runs: Sequence[RunConfig], continual: ContinualConfig, rows: Rows) -> None:
        super().__init__(NoParams())
        spec = runs[0].algorithm
        self._runs, self._continual, self._rows = runs, continual, rows
        self.phases = [(stage.name, plugins.algorithms.make(spec.kind, spec.params)) for stage in continual.stages]
        self._method: Algorithm[Any] = self.phases[0][1]
        self.learns_from = self._method.learns_from
        self.needs_graders = self._method.needs_graders
        self.validation: Validation | None = None
        """Told of the end of every stage, whether or not it measures within them."""

    def steps(self, rows: int) -> int:
        return sum(phase.steps(len(self._mixed(number)[0])) for number, (_, phase) in enumerate(self.phases))

    def ends(self) -> list[int]:
        """The step at which each stage ends."""
        steps = [phase.steps(len(self._mixed(number)[0])) for number, (_, phase) in enumerate(self.phases)]
        return [int(end) for end in np.cumsum(steps)]

    def rows_of(self, number: int, training: Training) -> tuple[Sequence[StandardRow], Sequence[Grader]]:
        return self._mixed(number)

    async def train(self, training: Training) -> Checkpoint:
        if self.validation is not None:
            model = training.run.model
            begun = model.load_checkpoint or model.init_from_checkpoint
            if begun is None:
                sampler = await training.service.create_sampling_client(base_model=model.name)
            else:
                client = await training.service.create_training_client_from_state(begun)
                sampler = await client.save_weights_and_get_sampling_client()
            await self.validation.at_step(sampler, 0)
        return await super().train(training)

    async def after(self, number: int, step: int, checkpoint: Checkpoint, training: Training) -> None:
        if self.validation is not None:
            sampler = await training.service.create_sampling_client(model_path=checkpoint.sampler_path)
            await self.validation.at_step(sampler, step)

    def _mixed(self, number: int) -> tuple[list[StandardRow], list[Grader]]:
        """A stage's own rows, and those of the stages before it that are replayed; with a grader each if needed."""
        rows, graders = self._stage(number)
        share = self._continual.stages[number].replay
        if not number or not share:
            return rows, graders
        earlier = [self._stage(before) for before in range(number)]
        old_rows = [row for found, _ in earlier for row in found]
        old_graders = [grader for _, found in earlier for grader in found]
        count = min(len(old_rows), round(len(rows) * share / (1 - share)))
        drawn = np.random.default_rng((self._runs[number].seed, number)).permutation(len(old_rows))[:count]
        graders = [*graders, *(old_graders[place] for place in drawn)] if graders else []
        return [*rows, *(old_rows[place] for place in drawn)], graders

    def _stage(self, number: int) -> tuple[list[StandardRow], list[Grader]]:
        run = self._runs[number]
        rows = list(self._rows.training(run, self.learns_from))
        return rows, self._rows.graders(rows, trained_on(run).verifier) if self.needs_graders else []


def stage_weights(stages: Stages, continual: ContinualConfig, arm: Arm) -> Iterator[tuple[str, str | None]]:
    """What each stage left, for sampling. None is the base model, if the first stage began with that."""
    saved = {checkpoint.batch: checkpoint for checkpoint in stages.checkpoints(arm.directory.run)}
    if not (arm.run.model.init_from_checkpoint or arm.run.model.load_checkpoint):
        yield START, None
    for stage, end in zip(continual.stages, stages.ends(), strict=True):
        if end in saved:
            yield stage.name, saved[end].sampler_path


def measured_together(parts: Sequence[MeasuredRows]) -> MeasuredRows:
    """Each row once, though several stages have it."""
    first = parts[0]
    if any(list(part.metrics) != list(first.metrics) for part in parts):
        names = "; ".join(", ".join(part.metrics) for part in parts)
        raise UserError(f"the stages are measured by different things ({names}); name some in `validation.metrics`")
    graded = {row.id: (row, grader) for part in parts for row, grader in zip(part.tasks, part.graders, strict=True)}
    return replace(
        first,
        tasks=[row for row, _ in graded.values()],
        graders=[grader for _, grader in graded.values()],
        examples=list({row.id: row for part in parts for row in part.examples}.values()),
        pairs=list({row.id: row for part in parts for row in part.pairs}.values()),
    )


def forgetting(
    arm: str,
    measurements: Sequence[Measurement],
    ends: Sequence[int],
    names: Sequence[str],
    parts: Sequence[MeasuredRows],
) -> Iterator[StageResult]:
    """The matrix of an arm, as far as it has come: after each stage, every stage's rows."""
    by_step = {one.step: one for one in measurements}
    for after, step in zip([START, *names], [0, *ends], strict=True):
        if step not in by_step:
            continue
        for name, part in zip(names, parts, strict=True):
            yield StageResult(arm=arm, after=after, on=name, measurement=_on(by_step[step], part))


def _on(measurement: Measurement, rows: MeasuredRows) -> Measurement:
    """The part of a measurement that is about these rows."""
    known = {row.id for found in (rows.tasks, rows.examples, rows.pairs) for row in found}
    tasks = {name: [one for one in found if one.task in known] for name, found in measurement.tasks.items()}
    return Measurement(
        step=measurement.step, metrics={name: _mean(found) for name, found in tasks.items()}, tasks=tasks
    )


def _mean(tasks: Sequence[TaskResult]) -> float:
    weights = [one.weight for one in tasks]
    return float(np.dot([one.number for one in tasks], weights) / np.sum(weights))
