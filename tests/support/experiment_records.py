"""Records of experiments whose truth is known, without training anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hone.experiments.config import Goal
from hone.experiments.records import ArmRecord, ExperimentRecord, Measurement, TaskResult, Usage

METRIC = "mean_reward"


def measurement(values: Sequence[float], *, step: int = 10, metric: str = METRIC, **more: Any) -> Measurement:
    """One number for each task; tasks are named `t0`, `t1`, ..."""
    tasks = [TaskResult(task=f"t{number}", values=[float(value)]) for number, value in enumerate(values)]
    mean = float(np.mean(np.asarray(values)))
    return Measurement(step=step, metrics={metric: mean}, tasks={metric: tasks}, **more)


def arm(name: str, *validation: Measurement, group: str | None = None, seed: int = 0, **more: Any) -> ArmRecord:
    """A finished arm that keeps its last measurement."""
    given: dict[str, Any] = {
        "training": "done",
        "evaluation": "done",
        "steps": validation[-1].step if validation else 0,
        "total_steps": validation[-1].step if validation else 0,
        "kept_step": validation[-1].step if validation else None,
        "sampler_path": f"tinker://run/sampler_weights/{name}" if validation else None,
        "usage": Usage(training_tokens=1000, prefill_tokens=200, sample_tokens=300, cost=0.25, seconds=12.5),
    }
    return ArmRecord(
        name=name,
        group=group or name,
        seed=seed,
        config_hash=f"hash-{name}",
        validation=list(validation),
        **(given | more),
    )


def failed_arm(name: str, reason: str = "the loss was not a number", **more: Any) -> ArmRecord:
    given: dict[str, Any] = {"training": "failed", "evaluation": "skipped", "error": reason}
    return arm(name, **(given | more))


def record(arms: Sequence[ArmRecord], **more: Any) -> ExperimentRecord:
    given: dict[str, Any] = {
        "id": "books-0123456789ab",
        "name": "books",
        "created": "2026-11-21T12:00:00Z",
        "status": "done",
        "config": {"name": "books"},
        "config_hash": "0123456789ab",
        "metric": METRIC,
    }
    return ExperimentRecord(arms=list(arms), **(given | more))


@dataclass
class World:
    """Draws what groups get: a truth, the luck of each run, tasks that are easier or harder, and noise.

    A group's runs are measured on the same tasks; how a task takes to a group is drawn once for the group.
    """

    draw: np.random.Generator
    tasks: int = 100
    run_luck: float = 0.02
    task_spread: float = 0.2
    task_taste: float = 0.05
    """How differently the groups find the same task."""
    noise: float = 0.1
    ease: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.ease = self.draw.normal(0, self.task_spread, self.tasks)

    def scores(self, truth: float, runs: int) -> np.ndarray:
        """Runs by tasks."""
        taste = self.draw.normal(0, self.task_taste, self.tasks)
        luck = self.draw.normal(0, self.run_luck, (runs, 1))
        noise = self.draw.normal(0, self.noise, (runs, self.tasks))
        return truth + luck + self.ease + taste + noise

    def group(self, name: str, truth: float, runs: int = 3, *, goal: Goal = "max", **more: Any) -> list[ArmRecord]:
        """The arms of a group whose true quality is `truth`; with `min` less is better, and `truth` is what is lost."""
        return [
            arm(f"{name}-s{seed}" if runs > 1 else name, measurement(row), group=name, seed=seed, **more)
            for seed, row in enumerate(self.scores(truth, runs))
        ]

    def experiment(self, truths: Mapping[str, float], runs: int = 3, **more: Any) -> ExperimentRecord:
        """One group for each name."""
        cells = {name: {"algorithm.kind": name} for name in truths}
        arms = [one for name, truth in truths.items() for one in self.group(name, truth, runs, cell=cells[name])]
        return record(arms, **more)
