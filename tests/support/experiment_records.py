"""Records of experiments whose truth is known, without training anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hone.experiments.config import Goal
from hone.experiments.records import (
    ArmRecord,
    BenchmarkResult,
    ExperimentRecord,
    Measurement,
    Opening,
    SampleRecord,
    StageResult,
    TaskResult,
    Usage,
)

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


HOSTILE = '<script>document.title = "taken over"</script><img src=x onerror="document.title = 1">'


def showcase(*, answer: str = HOSTILE) -> ExperimentRecord:
    """A record with everything that a page can show: a sweep with curves, failures, stages, tests, samples."""
    draw = np.random.default_rng(0)
    rates = (1e-5, 1e-4, 1e-3, 1e-2)
    best = {"sft": 0.62, "dpo": 0.71, "grpo": 0.66}
    arms = []
    for kind, top in best.items():
        for place, rate in enumerate(rates):
            group = f"{kind}-lr{rate:g}"
            cell = {"algorithm.kind": kind, "algorithm.params.lr": rate}
            if kind == "grpo" and rate == 1e-2:
                arms += [failed_arm(f"{group}-s{seed}", group=group, seed=seed, cell=cell) for seed in range(3)]
                continue
            taste, goal = draw.normal(0, 0.1, 60), top - 0.07 * abs(place - 2)
            for seed in range(3):
                luck = draw.normal(0, 0.012)
                moments = [
                    measurement(
                        0.3 + (goal + luck - 0.3) * (1 - np.exp(-step / 15)) + taste + draw.normal(0, 0.08, 60),
                        step=step,
                        usage=Usage(prefill_tokens=6000, sample_tokens=3000, cost=0.02, seconds=3),
                    )
                    for step in range(0, 61, 10)
                ]
                config = {"algorithm": {"kind": kind, "params": {"lr": rate}}, "model": {"name": "hone/tiny"}}
                arms.append(arm(f"{group}-s{seed}", *moments, group=group, seed=seed, cell=cell, config=config))
    stages = ("dates", "home", "orders")
    forgetting = [
        StageResult(
            arm="sft-lr0.001-s0",
            after=after,
            on=on,
            measurement=measurement([0.2 + 0.7 * (row == column) + 0.5 * (row > column)] * 5),
        )
        for row, after in enumerate(("start", *stages), start=-1)
        for column, on in enumerate(stages)
    ]
    opening = Opening(
        benchmark="sealed",
        who="a person",
        when="2026-11-21T12:00:00Z",
        why="the arm was chosen",
        arms=["dpo-lr0.001-s0"],
        fingerprint="5f1c0a9b7e3d2c4f5a6b",
        overlap_waiver="three rows are the names of months",
    )
    tests = [
        BenchmarkResult(benchmark="sealed", subject=subject, measurement=measurement(value + draw.normal(0, 0.1, 80)))
        for subject, value in (("dpo-lr0.001-s0", 0.68), ("baseline", 0.31), ("a hosted model", 0.74))
    ]
    samples = [
        SampleRecord(task=f"t{n}", prompt=f"Who wrote book {n}?", before=before, after=answer, score_after=1)
        for n, before in enumerate(("It is\nnot known.", None, "A & B"))
    ]
    return record(
        arms,
        name="three-methods",
        id="three-methods-0123456789ab",
        config={
            "name": "three-methods",
            "description": f"Which method, at which rate? {answer}",
            "hypothesis": "DPO beats SFT",
            "budget": {"tokens": 1_000_000, "cost": None},
        },
        data_fingerprints={"train": "8d9f0e", "validation": "77aa01"},
        code={"hone": "0.1.0", "tinker": "0.38.0", "python": "3.11.9"},
        openings=[opening],
        benchmarks=tests,
        forgetting=forgetting,
        samples=samples,
    )
