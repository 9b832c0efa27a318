"""What is measured while an arm trains, and when it stops for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from hone.experiments.config import Goal, StopConfig
from hone.experiments.kinds.contract import StopTraining
from hone.experiments.records import Measurement
from hone.experiments.runner.directory import ArmDirectory
from hone.experiments.runner.measure import GradedAnswer, Measured

if TYPE_CHECKING:
    import tinker


SHOWN = 8
"""Answers of each measurement that are kept for people."""

Measure = Callable[["tinker.SamplingClient", int], Awaitable[Measured]]


class Validation:
    """The evaluator of an arm. A measurement that fails is journalled, and the arm trains on; one that was made before
    an interruption is not made again."""

    def __init__(
        self,
        directory: ArmDirectory,
        measure: Measure,
        *,
        metric: str,
        goal: Goal,
        stop: StopConfig,
        total_steps: int,
        on_measured: Callable[[Measurement], None] = lambda measurement: None,
        on_failure: Callable[[int, Exception], None] = lambda step, error: None,
        at_gate: Callable[[int, float | None], Awaitable[bool]] | None = None,
    ) -> None:
        self._measure, self._metric, self._goal, self._stop = measure, metric, goal, stop
        self._total_steps = total_steps
        self._on_measured, self._on_failure, self._at_gate = on_measured, on_failure, at_gate
        self._lines, self._samples = directory.validation(), directory.samples()
        self._found = {row["step"]: Measurement.model_validate(row) for row in self._lines.rows}

    @property
    def measurements(self) -> list[Measurement]:
        return [self._found[step] for step in sorted(self._found)]

    async def __call__(self, sampler: tinker.SamplingClient) -> Mapping[str, float]:
        raise AssertionError("an arm's validation has to be told the step: call `hone.algorithms.evaluation.evaluate`")

    async def at_step(self, sampler: tinker.SamplingClient, step: int) -> Mapping[str, float]:
        try:
            await self.at(sampler, step)
        except Exception as error:  # training goes on; the arm measures again at its end
            self._on_failure(step, error)
        if step < self._total_steps:
            await self._may_stop(step)
        return {}

    async def at(self, sampler: tinker.SamplingClient, step: int) -> Measurement:
        """The measurement of the weights after `step` steps, made if it is not there."""
        if step not in self._found:
            measured = await self._measure(sampler, step)
            for answer in measured.answers[:SHOWN]:
                self._samples.append(_shown(step, answer))
            self._lines.append(measured.measurement.model_dump(mode="json"))
            self._found[step] = measured.measurement
            self._on_measured(measured.measurement)
        return self._found[step]

    async def _may_stop(self, step: int) -> None:
        values = [one.metrics[self._metric] for one in self.measurements if one.step <= step]
        patience = self._stop.patience
        if patience is not None and is_exhausted(values, self._goal, patience, self._stop.min_delta):
            raise StopTraining(f"no better {self._metric} in {patience} measurements")
        if self._at_gate is not None:
            at_step = self._found.get(step)
            value = None if at_step is None else at_step.metrics[self._metric]
            if not await self._at_gate(step, value):
                raise StopTraining(f"halving: others were better after {step} steps")


def is_exhausted(values: Sequence[float], goal: Goal, patience: int, min_delta: float) -> bool:
    """Whether the last `patience` values brought nothing better than those before them, by `min_delta` or more."""
    if len(values) <= patience:
        return False
    sign = 1.0 if goal == "max" else -1.0
    signed = [sign * value for value in values]
    best = signed[0]
    since = 0
    for value in signed[1:]:
        if value > best and value >= best + min_delta:
            best, since = value, 0
        else:
            since += 1
    return since >= patience


def best_step(measurements: Sequence[Measurement], metric: str, goal: Goal, steps: Sequence[int]) -> int | None:
    """Among `steps`, the one with the best value; of equal ones the earliest."""
    sign = -1.0 if goal == "max" else 1.0
    found = [(sign * one.metrics[metric], one.step) for one in measurements if one.step in steps]
    return min(found)[1] if found else None


def _shown(step: int, answer: GradedAnswer) -> dict[str, object]:
    asked = answer.row.prompt[-1]["content"]
    return {
        "step": step,
        "task": answer.row.id,
        "prompt": asked if isinstance(asked, str) else str(asked),
        "answer": answer.text,
        "score": answer.score,
        "failure": answer.failure,
    }
