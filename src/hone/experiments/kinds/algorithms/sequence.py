"""Several methods one after another: each begins exactly with the weights that the one before it ended with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from hone.algorithms.config import Config
from hone.errors import UserError
from hone.experiments.config import Spec
from hone.experiments.kinds.contract import Algorithm, StopTraining, Training

if TYPE_CHECKING:
    import tinker

    from hone.algorithms.evaluation import Evaluator
    from hone.algorithms.run_directory import Checkpoint
    from hone.experiments.data.rows import RowKind


class Phase(Spec):
    """One of the methods."""

    registry = "algorithm"


class SequenceParams(Config):
    phases: list[Phase] = Field(min_length=1, examples=[[{"kind": "sft"}, {"kind": "grpo"}]])
    """In order, such as `sft` and then `grpo`. Each takes what it learns from out of the same rows, and begins with a
    fresh optimizer."""


class Sequence(Algorithm[SequenceParams]):
    Params = SequenceParams

    def __init__(self, params: SequenceParams) -> None:
        from hone.experiments.kinds import plugins

        super().__init__(params)
        self._phases: list[Algorithm[Any]] = [plugins.algorithms.make(one.kind, one.params) for one in params.phases]
        self.learns_from: RowKind = self._phases[0].learns_from
        self.needs_graders = self._phases[0].needs_graders

    def steps(self, rows: int) -> int:
        return sum(phase.steps(rows) for phase in self._phases)

    def checkpoints(self, run_dir: Path) -> list[Checkpoint]:
        found: list[Checkpoint] = []
        before = 0
        for number, phase in enumerate(self._phases):
            saved = phase.checkpoints(self._folder(run_dir, number))
            last = number == len(self._phases) - 1
            found += [replace(one, batch=one.batch + before, final=one.final and last) for one in saved]
            if not saved or not saved[-1].final:
                break
            before += saved[-1].batch
        return found

    async def train(self, training: Training) -> Checkpoint:
        assert training.rows_as is not None
        before = 0
        run, newest = training.run, None
        for number, phase in enumerate(self._phases):
            rows, graders = training.rows_as(phase.learns_from, phase.needs_graders)
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
            begun = run.model.model_copy(update={"init_from_checkpoint": newest.state_path, "load_checkpoint": None})
            run = run.model_copy(update={"model": begun})
        if newest is None:
            raise UserError("a sequence needs a phase")
        return replace(newest, batch=before)

    def _folder(self, run_dir: Path, number: int) -> Path:
        return run_dir / f"{number + 1}-{self.params.phases[number].kind}"


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
