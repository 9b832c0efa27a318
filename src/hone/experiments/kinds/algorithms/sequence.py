"""Several methods one after another: each begins exactly with the weights that the one before it ended with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field

from hone.algorithms.config import Config
from hone.errors import UserError
from hone.experiments.config import Spec
from hone.experiments.kinds.contract import Algorithm, RowSizes, StopTraining, Training
from hone.experiments.records import Usage
from hone.experiments.runner.usage import total

if TYPE_CHECKING:
    import tinker

    from hone.algorithms.evaluation import Evaluator
    from hone.algorithms.graders.grade import Grader
    from hone.algorithms.run_directory import Checkpoint
    from hone.experiments.data.rows import RowKind, StandardRow


class Phase(Spec):
    """One of the methods."""

    registry = "algorithm"


class SequenceParams(Config):
    phases: list[Phase] = Field(min_length=1, examples=[[{"kind": "sft"}, {"kind": "grpo"}]])
    """In order, such as `sft` and then `grpo`. Each takes what it learns from out of the same rows, and begins with a
    fresh optimizer."""


ParamsT = TypeVar("ParamsT", bound=Config)


class Phases(Algorithm[ParamsT]):
    """What methods one after another have in common; each has a directory of its own in the arm's."""

    phases: Sequence[tuple[str, Algorithm[Any]]]
    """By the name of their directories."""

    def rows_of(self, number: int, training: Training) -> tuple[Sequence[StandardRow], Sequence[Grader]]:
        """What a phase learns from, with graders if it needs them."""
        assert training.rows_as is not None
        phase = self.phases[number][1]
        return training.rows_as(phase.learns_from, phase.needs_graders)

    async def after(self, number: int, step: int, checkpoint: Checkpoint, training: Training) -> None:
        """A phase has ended, `step` steps after the beginning of the first."""

    def effort(self, rows: int, sizes: RowSizes) -> Usage:
        return total([phase.effort(rows, sizes) for _, phase in self.phases])

    def checkpoints(self, run_dir: Path) -> list[Checkpoint]:
        found: list[Checkpoint] = []
        before = 0
        for number, (_, phase) in enumerate(self.phases):
            saved = phase.checkpoints(self._folder(run_dir, number))
            last = number == len(self.phases) - 1
            found += [replace(one, batch=one.batch + before, final=one.final and last) for one in saved]
            if not saved or not saved[-1].final:
                break
            before += saved[-1].batch
        return found

    async def train(self, training: Training) -> Checkpoint:
        before = 0
        run, newest = training.run, None
        for number, (_, phase) in enumerate(self.phases):
            rows, graders = self.rows_of(number, training)
            shifted = [_Shifted(evaluator, before, phase.steps(len(rows))) for evaluator in training.evaluators]
            newest = await phase.train(
                replace(
                    training,
                    run=run,
                    rows=rows,
                    graders=graders,
                    run_dir=self._folder(training.run_dir, number),
                    evaluators=shifted,
                    sinks=[_ShiftedSink(sink, before) for sink in training.sinks],
                )
            )
            before += newest.batch
            if not newest.final:
                break
            for evaluator in shifted:
                evaluator.speak()
            await self.after(number, before, newest, training)
            begun = run.model.model_copy(update={"init_from_checkpoint": newest.state_path, "load_checkpoint": None})
            run = run.model_copy(update={"model": begun})
        if newest is None:
            raise UserError("there is no phase to train")
        last = number == len(self.phases) - 1
        return replace(newest, batch=before, final=newest.final and last)

    def _folder(self, run_dir: Path, number: int) -> Path:
        return run_dir / f"{number + 1}-{re.sub(r'[^A-Za-z0-9._-]', '_', self.phases[number][0])}"


class SequenceOfMethods(Phases[SequenceParams]):
    """Each learns from the same rows, as those of its kind."""

    Params = SequenceParams

    def __init__(self, params: SequenceParams) -> None:
        from hone.experiments.kinds import plugins

        super().__init__(params)
        self.phases = [(one.kind, plugins.algorithms.make(one.kind, one.params)) for one in params.phases]
        first = self.phases[0][1]
        self.learns_from: RowKind = first.learns_from
        self.needs_graders = first.needs_graders

    def steps(self, rows: int) -> int:
        return sum(phase.steps(rows) for _, phase in self.phases)


@dataclass
class _Shifted:
    """An evaluator that hears of the steps of the whole sequence. At the end of a phase it may stop the arm only when
    the phase is saved."""

    evaluator: Evaluator
    before: int
    phase_steps: int
    _stop: StopTraining | None = None

    async def __call__(self, sampler: tinker.SamplingClient) -> Mapping[str, float]:
        return await self.evaluator(sampler)

    async def at_step(self, sampler: tinker.SamplingClient, step: int) -> Mapping[str, float]:
        from hone.algorithms.evaluation import StepEvaluator

        if not isinstance(self.evaluator, StepEvaluator):
            return await self.evaluator(sampler)
        try:
            return await self.evaluator.at_step(sampler, self.before + step)
        except StopTraining as stop:
            if step < self.phase_steps:
                raise
            self._stop = stop
            return {}

    def speak(self) -> None:
        if self._stop is not None:
            raise self._stop


@dataclass(frozen=True)
class _ShiftedSink:
    """Counts steps through the whole sequence, and stays open between its phases."""

    sink: Any
    before: int

    def log(self, step: int, metrics: Mapping[str, float | int | str]) -> None:
        self.sink.log(self.before + step, metrics)

    def close(self) -> None:
        """The arm closes it."""
