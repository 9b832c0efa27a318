"""One arm: rows, training with its measurements, and the checkpoint that it ends with.

Training and evaluation have states of their own: an evaluation that fails leaves the trained arm, and can be done
again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hone.errors import HoneError, UserError
from hone.experiments.config import ContinualConfig, Goal, RunConfig, Spec
from hone.experiments.kinds import plugins
from hone.experiments.kinds.contract import Algorithm, StopTraining, Training
from hone.experiments.matrix import PlannedArm
from hone.experiments.records import ArmRecord, Measurement
from hone.experiments.runner.continual import Stages, measured_together
from hone.experiments.runner.directory import ArmDirectory
from hone.experiments.runner.rows import Rows, trained_on
from hone.experiments.runner.services import Services, Speaker
from hone.experiments.runner.usage import Meter, metered
from hone.experiments.runner.validation import Validation, best_step
from hone.observe.progress import NamedDisplay

if TYPE_CHECKING:
    from hone.algorithms.graders.grade import Grader
    from hone.algorithms.run_directory import Checkpoint, MetricSink
    from hone.experiments.data.rows import RowKind, StandardRow
    from hone.experiments.runner.budget import Budget
    from hone.experiments.runner.halving import Gate
    from hone.experiments.runner.journal import Journal
    from hone.observe.progress import Display

ENDED = ("done", "stopped", "failed", "skipped")
SAVE_SECONDS = 1.0

Tell = Callable[[ArmRecord], None]


class ArmStop:
    """Asks an arm to stop after its step; the checkpoint that it saves then does not expire."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.is_interrupt = False

    def __bool__(self) -> bool:
        return self.reason is not None

    def interrupt(self) -> None:
        self.reason, self.is_interrupt = "interrupted", True

    def end(self, reason: str) -> None:
        self.reason = self.reason or reason


@dataclass(frozen=True)
class Shared:
    """What the arms of an experiment have in common."""

    experiment: str
    services: Services
    rows: Rows
    journal: Journal
    budget: Budget
    slots: asyncio.Semaphore
    stores: Sequence[Spec]
    display: Display
    metric: str | None
    """What arms are chosen by; without it the first that they measure."""
    goal: Goal | None
    gates: Mapping[str, Gate] = field(default_factory=dict)
    """By arm."""
    tell: Tell = lambda record: None
    continual: ContinualConfig | None = None


@dataclass
class Arm:
    planned: PlannedArm
    run: RunConfig
    """Of the plan, with paths in place of names of experiments."""
    directory: ArmDirectory
    record: ArmRecord
    runs: Sequence[RunConfig] = ()
    """The run on its data; on those of each stage, if it learns in stages."""
    stop: ArmStop = field(default_factory=ArmStop)

    @property
    def name(self) -> str:
        return self.planned.name

    def note(self, shared: Shared, **changes: Any) -> None:
        self.record = self.record.model_copy(update=changes)
        shared.tell(self.record)

    def end(self, shared: Shared, **changes: Any) -> None:
        """What the arm ends with: on disk before anybody hears of it."""
        self.record = self.record.model_copy(update={**changes, "usage": self.directory.usage()})
        self.directory.write_status(self.record)
        shared.journal.note(
            "arm_ended",
            arm=self.name,
            training=self.record.training,
            evaluation=self.record.evaluation,
            error=self.record.error,
        )
        shared.tell(self.record)


async def run_arm(arm: Arm, shared: Shared) -> None:
    """Take one arm to its end; `arm.record` says how that went. Only an interrupt leaves it without one.

    Whatever fails in it is its own.
    """
    began = time.monotonic()
    meter: Meter | None = None
    try:
        speaker = await shared.services.speaker(arm.run.backend, arm.run.model)
        meter = Meter(speaker.session.prices, arm.directory.usage())
        work = _Work(arm, shared, speaker, meter, began)
        if arm.record.training not in ("done", "stopped"):
            await work.train()
        if arm.record.training in ("done", "stopped"):
            await work.evaluate()
    except Exception as error:
        shared.journal.note("arm_failed", arm=arm.name, error=told(error))
        if meter is not None:
            meter.add(seconds=time.monotonic() - began)
            arm.directory.write_usage(meter.usage)
        arm.end(shared, training="failed", evaluation="skipped", error=told(error))


def told(error: BaseException) -> str:
    """For people: the sentence of a mistake they can mend, the kind of any other."""
    return str(error) if isinstance(error, HoneError) else f"{type(error).__name__}: {error}"


class _Work:
    """What is needed while an arm runs."""

    def __init__(self, arm: Arm, shared: Shared, speaker: Speaker, meter: Meter, began: float) -> None:
        self.arm, self.shared, self.speaker, self.meter = arm, shared, speaker, meter
        self._counted_from = began
        model = arm.run.model.model_copy(update={"name": speaker.model})
        self.run = arm.run.model_copy(update={"model": model})
        self.stages: Stages | None = None
        self.algorithm: Algorithm[Any] = plugins.algorithms.make(self.run.algorithm.kind, self.run.algorithm.params)
        if shared.continual is not None:
            self.algorithm = self.stages = Stages(arm.runs, shared.continual, shared.rows)
        self.measured = measured_together([shared.rows.measured(run) for run in arm.runs])
        self.metric = shared.metric or next(iter(self.measured.metrics))
        if self.metric not in self.measured.metrics:
            raise UserError(
                f"arms are chosen by {self.metric!r}, and this one measures {', '.join(self.measured.metrics)}; "
                "name it in `validation.metrics`"
            )
        self.goal: Goal = shared.goal or self.measured.metrics[self.metric].goal

    async def train(self) -> None:
        from hone.algorithms.training_session import stopped_by

        rows, graders = self._rows_as(self.algorithm.learns_from, self.algorithm.needs_graders)
        total_steps = self.algorithm.steps(len(rows))
        self.arm.note(self.shared, training="running", total_steps=total_steps)
        self.shared.journal.note("arm_begins", arm=self.arm.name, steps=total_steps)
        validation = self._validation(total_steps)
        if self.stages is not None:
            self.stages.validation = validation
        sinks = [_Watch(self), *self._stores()]
        every = self.run.validation.every
        training = Training(
            service=metered(self.speaker.session.service, self.meter),
            run=self.run,
            renderer=self.speaker.renderer,
            tokenizer=self.speaker.tokenizer,
            rows=rows,
            graders=graders,
            run_dir=self.arm.directory.run,
            evaluators=[validation],
            validate_every=every,
            sinks=[_KeptOpen(sink) for sink in sinks],
            display=NamedDisplay(self.shared.display, self.arm.name),
            rows_as=self._rows_as,
        )
        stop = self.arm.stop
        try:
            with stopped_by(stop):
                last = await self.algorithm.train(training)
            self._stopped_or_done(last)
        except StopTraining as ended:
            if stop.is_interrupt:
                self.arm.note(self.shared, training="waiting")
            else:
                self._stopped(stop.reason or str(ended))
        except UserError:
            if not stop:  # else: asked to stop before the first step
                raise
            self._stopped_before_the_first_step()
        finally:
            for sink in sinks:
                sink.close()
            self.count()

    def _stopped_or_done(self, last: Checkpoint) -> None:
        stop = self.arm.stop
        if last.final:
            self.arm.note(self.shared, training="done", error=None, steps=last.batch)
        elif stop.is_interrupt:
            self.arm.note(self.shared, training="waiting", steps=last.batch)
        else:
            self._stopped(stop.reason or "it ended before its last step")

    def _stopped(self, reason: str) -> None:
        saved = self.algorithm.checkpoints(self.arm.directory.run)
        if not saved:
            self.arm.end(self.shared, training="skipped", evaluation="skipped", error=reason)
            return
        self.arm.note(self.shared, training="stopped", error=reason, steps=saved[-1].batch)

    def _stopped_before_the_first_step(self) -> None:
        if self.arm.stop.is_interrupt:
            self.arm.note(self.shared, training="waiting")
        else:
            self._stopped(str(self.arm.stop.reason))

    async def evaluate(self) -> None:
        """Measure the last checkpoint if that has not been done, and keep the one that the arm ends with."""
        saved = {checkpoint.batch: checkpoint for checkpoint in self.algorithm.checkpoints(self.arm.directory.run)}
        newest = saved[max(saved)]
        validation = self._validation(newest.batch)
        state, error = "done", self.arm.record.error
        try:
            self.arm.note(self.shared, evaluation="running")
            sampler = await self.speaker.session.service.create_sampling_client(model_path=newest.sampler_path)
            await validation.at(sampler, newest.batch)
        except Exception as failure:
            self._evaluation_failed(newest.batch, failure)
            state, error = "failed", told(failure)
        kept = newest
        if self.run.validation.keep == "best":
            best = best_step(validation.measurements, self.metric, self.goal, list(saved))
            kept = saved[newest.batch if best is None else best]
        await self._keep_for_good(kept)
        self.count()
        self.arm.end(
            self.shared,
            evaluation=state,
            error=error,
            validation=validation.measurements,
            kept_step=kept.batch,
            state_path=kept.state_path,
            sampler_path=kept.sampler_path,
        )

    async def _keep_for_good(self, kept: Checkpoint) -> None:
        """Checkpoints along the way expire; the one that an arm ends with must not."""
        keep = self.speaker.session.keep
        if kept.final or keep is None:
            return
        for path in (kept.state_path, kept.sampler_path):
            if path is None:
                continue
            try:
                await keep(path)
            except Exception as error:  # the arm is whole; somebody has to be told
                self.shared.journal.note("checkpoint_expires", arm=self.arm.name, path=path, error=told(error))

    def _validation(self, total_steps: int) -> Validation:
        from hone.experiments.runner.measure import measure_sampler

        async def measure(sampler: Any, step: int) -> Any:
            return await measure_sampler(
                sampler, self.measured, self.speaker.renderer, step=step, seed=self.run.seed, meter=self.meter
            )

        gate = self.shared.gates.get(self.arm.name)
        return Validation(
            self.arm.directory,
            measure,
            metric=self.metric,
            goal=self.goal,
            stop=self.run.stop,
            total_steps=total_steps,
            on_measured=self._on_measured,
            on_failure=self._evaluation_failed,
            at_gate=None if gate is None else lambda step, value: self._pass(gate, step, value),
        )

    def _on_measured(self, measurement: Measurement) -> None:
        self.count()
        validation = [*self.arm.record.validation, measurement]
        self.arm.note(self.shared, validation=validation)
        for sink in self._open_stores:
            sink.log(measurement.step, {f"validation/{name}": value for name, value in measurement.metrics.items()})

    def _evaluation_failed(self, step: int, error: Exception) -> None:
        self.shared.journal.note("evaluation_failed", arm=self.arm.name, step=step, error=told(error))

    async def _pass(self, gate: Gate, step: int, value: float | None) -> bool:
        """Wait for the others, and let another arm train meanwhile."""
        if not gate.is_rung(step):
            return True
        self.shared.slots.release()
        waiting = asyncio.create_task(gate.passes(self.arm.name, step, value))
        try:
            while not waiting.done():
                await asyncio.wait([waiting], timeout=0.2)
                if self.arm.stop:
                    waiting.cancel()
                    raise StopTraining(str(self.arm.stop.reason))
        finally:
            await self.shared.slots.acquire()
        return waiting.result()

    _open_stores: Sequence[MetricSink] = ()

    def _stores(self) -> Sequence[MetricSink]:
        config = self.run.model_dump(mode="json")
        self._open_stores = [
            plugins.stores.make(spec.kind, spec.params).open(
                self.shared.experiment, self.arm.name, self.arm.directory.path, config
            )
            for spec in self.shared.stores
        ]
        return self._open_stores

    def _rows_as(self, kind: RowKind, graded: bool) -> tuple[Sequence[StandardRow], Sequence[Grader]]:
        run = self.arm.runs[0]
        rows = self.shared.rows.training(run, kind)
        return rows, self.shared.rows.graders(rows, trained_on(run).verifier) if graded else []

    def count(self) -> None:
        """Write down what was used since this was called last."""
        now = time.monotonic()
        self.meter.add(seconds=now - self._counted_from)
        self._counted_from = now
        self.arm.directory.write_usage(self.meter.usage)
        self.shared.budget.note(self.arm.name, self.meter.usage)


class _Watch:
    """Hears of every step: what it took, how far the arm is, and whether the budget is used up."""

    def __init__(self, work: _Work) -> None:
        self._work = work
        self._counted = 0.0

    def log(self, step: int, metrics: Mapping[str, float | int | str]) -> None:
        work = self._work
        if time.monotonic() - self._counted >= SAVE_SECONDS:
            self._counted = time.monotonic()
            work.count()
            work.arm.note(work.shared, steps=step, usage=work.meter.usage)
        work.shared.budget.note(work.arm.name, work.meter.usage)
        if (why := work.shared.budget.exceeded()) is not None:
            work.arm.stop.end(why)

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class _KeptOpen:
    """A sink that the arm closes: after the algorithm there is still a measurement to come."""

    sink: MetricSink

    def log(self, step: int, metrics: Mapping[str, float | int | str]) -> None:
        self.sink.log(step, metrics)

    def close(self) -> None:
        pass
