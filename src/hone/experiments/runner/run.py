"""The whole of an experiment: plan, arms side by side, choice, benchmarks, conclusion, report.

Everything is on disk before anything rests on it, so an experiment that was killed goes on to the same result.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import yaml

from hone.errors import UserError
from hone.experiments.check import check
from hone.experiments.config import ExperimentConfig, Goal, RunConfig
from hone.experiments.loading import LoadedExperiment
from hone.experiments.matrix import PlannedArm, plan_arms
from hone.experiments.records import ArmRecord, ExperimentRecord, State, Usage
from hone.experiments.runner.arm import ENDED, Arm, Shared, run_arm, told
from hone.experiments.runner.benchmarks import check_overlap
from hone.experiments.runner.budget import OF_BUDGET, Budget
from hone.experiments.runner.code_versions import versions
from hone.experiments.runner.continual import stage_runs
from hone.experiments.runner.directory import ExperimentDirectory, identity, write_json
from hone.experiments.runner.ending import end_experiment
from hone.experiments.runner.halving import Gate
from hone.experiments.runner.journal import Journal, utc_now
from hone.experiments.runner.rows import Rows, named_metrics
from hone.experiments.runner.services import Services
from hone.experiments.runner.usage import tokens
from hone.experiments.runner.weights import with_paths
from hone.observe.progress import Advance, Display, silent


def run_experiment(
    loaded: LoadedExperiment,
    *,
    resume: bool = False,
    only: Sequence[str] = (),
    display: Display = silent,
    environ: Mapping[str, str] = os.environ,
) -> ExperimentRecord:
    """Run what is not done yet, and return everything that is known at the end.

    Args:
        resume: Go on with an experiment that was interrupted, do failed arms and evaluations again, and take over from
            one whose file has changed since the arms whose configuration and data have not.
        only: Arms to train now, as patterns of names. Nothing is concluded before all have ended.

    Raises:
        UserError: the experiment is there already and was not to be resumed, or is run by another process.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", environ.get("HF_HUB_OFFLINE", "1"))
    directory = experiment_directory(loaded)
    with directory.locked() as journal:
        finished = _earlier(loaded, directory, resume)
        if finished is not None:
            return finished
        return Campaign(loaded, directory, journal, resume, only, display).run()


def experiment_directory(loaded: LoadedExperiment) -> ExperimentDirectory:
    return ExperimentDirectory(loaded.home / loaded.config.output_dir / loaded.config.name)


def _earlier(loaded: LoadedExperiment, directory: ExperimentDirectory, resume: bool) -> ExperimentRecord | None:
    """What an earlier run of the same file finished; None if there is something to do.

    Raises:
        UserError: it was interrupted or was another file, and nobody said that it shall go on.
    """
    found, record = directory.config(), directory.record()
    if found is None or record is None or resume:  # without a record nothing was ever begun
        return None
    if found["config_hash"] != loaded.config_hash:
        raise UserError(
            f"{directory.path} holds an experiment of another configuration (differing: "
            f"{', '.join(_differing(found['config'], loaded.resolved)) or 'its data'}); "
            "resume to keep the arms that have not changed, or give it another name"
        )
    if record.status not in ("done", "failed"):
        raise UserError(f"{directory.path} holds this experiment, which has not ended; resume it, or remove it")
    if changed := _changed_rows(loaded, record):
        raise UserError(
            f"{directory.path} holds results of other rows (differing: {', '.join(changed)}); "
            "resume to train again what rests on them, or give it another name"
        )
    return record


def _changed_rows(loaded: LoadedExperiment, record: ExperimentRecord) -> list[str]:
    """Sides of the data that are not what they were."""
    rows = Rows(loaded.home)
    now: set[str] = set()
    for arm in plan_arms(loaded.config):
        try:
            now.update(_fingerprints(loaded.config, rows, arm.run).values())
        except UserError:
            continue  # these rows cannot be read; where they could before, they have changed
    return [side for side, value in record.data_fingerprints.items() if value not in now]


def _fingerprints(config: ExperimentConfig, rows: Rows, run: RunConfig) -> dict[str, str]:
    """Of what an arm learns from and is measured on; of each stage, if it learns in stages."""
    if config.continual is None:
        return rows.fingerprints(run)
    found = {}
    for stage, one in zip(config.continual.stages, stage_runs(run, config.continual), strict=True):
        found.update({f"{stage.name}/{side}": value for side, value in rows.fingerprints(one).items()})
    return found


class Campaign:
    def __init__(
        self,
        loaded: LoadedExperiment,
        directory: ExperimentDirectory,
        journal: Journal,
        resume: bool,
        only: Sequence[str],
        display: Display,
    ) -> None:
        self.loaded, self.config = loaded, loaded.config
        self.directory, self.journal, self.display = directory, journal, display
        self.rows = Rows(loaded.home)
        self._fingerprints: dict[str, dict[str, str]] = {}
        """Of the sides of its data, by arm."""
        planned = plan_arms(self.config)
        self.chosen = [arm.name for arm in planned if not only or any(fnmatchcase(arm.name, one) for one in only)]
        if not self.chosen:
            raise UserError(f"no arm is named {' or '.join(only)}; there are {', '.join(arm.name for arm in planned)}")
        if only and any(arm.run.stop.halving for arm in planned):
            raise UserError("halving compares all arms with each other; run them together, without `only`")
        self._write_beginning(planned)
        self.arms = self._arms(planned, again=resume)
        check_overlap(self.config, loaded.home, self.arms, self.rows, journal)
        self.record = self._first_record()

    def run(self) -> ExperimentRecord:
        self._save()
        self.journal.note("begins", arms=len(self.arms))
        budget = Budget(self.config.budget, self.directory.path / "spent.json")
        with Services(self.directory.backends) as services:
            asyncio.run(self._run(services, budget))
        budget.save()
        self.journal.note("ends", status=self.record.status)
        return self.record

    async def _run(self, services: Services, budget: Budget) -> None:
        metric, goal = self._selection()
        shared = Shared(
            experiment=self.config.name,
            services=services,
            rows=self.rows,
            journal=self.journal,
            budget=budget,
            slots=asyncio.Semaphore(self.config.concurrency),
            stores=self.config.stores,
            display=self.display,
            metric=metric,
            goal=goal,
            gates=self._gates(goal),
            tell=self._told,
            continual=self.config.continual,
        )
        for arm in self.arms:
            budget.note(arm.name, arm.directory.usage())
        for event in self.journal.of("arm_begins"):
            budget.begun(event["arm"])
        with self._interruptible(), self.display.bar("arms", len(self.arms)) as advance:
            await asyncio.gather(*(self._one(arm, shared, advance) for arm in self.arms))
        self._settle()
        if self.record.status in ("done", "failed"):
            # On disk it goes on running until everything is concluded: cut off before, it has to be resumed.
            self.record = await end_experiment(self, shared)
        self._save()

    async def _one(self, arm: Arm, shared: Shared, advance: Advance) -> None:
        gate = shared.gates.get(arm.name)
        ended_before = arm.record.training in ENDED and arm.record.evaluation in ENDED
        try:
            if ended_before:
                return
            if arm.name not in self.chosen:
                return
            async with shared.slots:
                if arm.stop:
                    return
                if (why := shared.budget.refusal(arm.name, self._expected(arm))) is not None:
                    earlier = arm.directory.status()
                    if earlier is not None and earlier.training == "stopped":
                        arm.note(shared, **dict(earlier))  # as the budget left it
                    else:
                        arm.end(shared, training="skipped", evaluation="skipped", error=why)
                    return
                await run_arm(arm, shared)
        finally:
            shared.budget.ended(arm.name)
            # One that was interrupted will come to the gate another day, and is part of what is decided there.
            if gate is not None and arm.record.training in ENDED:
                gate.leave(arm.name)
            if arm.record.training in ENDED:
                if not ended_before:
                    self.display.say(in_brief(arm.record, shared.metric))
                advance(f"{tokens(shared.budget.spent):,} tokens")

    def _expected(self, arm: Arm) -> Usage:
        """What arms of the same method took, at most; before any has ended, what the check says that it takes at
        least."""
        ended = [
            one.record.usage
            for one in self.arms
            if one.record.training == "done" and one.run.algorithm.kind == arm.run.algorithm.kind
        ]
        if not ended:
            return self._estimates.get(arm.name, Usage())
        return Usage(
            training_tokens=max(one.training_tokens for one in ended),
            prefill_tokens=max(one.prefill_tokens for one in ended),
            sample_tokens=max(one.sample_tokens for one in ended),
            cost=max(one.cost for one in ended),
            seconds=max(one.seconds for one in ended),
        )

    @cached_property
    def _estimates(self) -> dict[str, Usage]:
        """By arm; made only where a budget asks for them."""
        if self.config.budget.tokens is None and self.config.budget.cost is None:
            return {}
        found = check(self.loaded).estimate
        return {one.arm: one.least for one in found.arms} if found is not None else {}

    def _selection(self) -> tuple[str | None, Goal | None]:
        """What arms are chosen by. Without a selection each arm's first metric, which is the same if their data are."""
        if self.config.selection is not None:
            return self.config.selection.metric, self.config.selection.goal
        for arm in self.arms:
            if arm.run.validation.metrics:
                ((name, metric), *_) = named_metrics(arm.run.validation.metrics).items()
                return name, metric.goal
        for arm in self.arms:
            try:
                ((name, metric), *_) = self.rows.measured(arm.runs[0]).metrics.items()
            except UserError:
                continue  # the arm will say so itself
            return name, metric.goal
        return None, None

    def _bounds(self) -> dict[str, tuple[float | None, float | None]]:
        """Of every metric that the file names, and of those that suit the rows where it names none."""
        named = [arm.run.validation.metrics for arm in self.arms] + [one.metrics for one in self.config.benchmarks]
        found = {name: metric.bounds for specs in named for name, metric in named_metrics(specs).items()}
        for arm in self.arms:
            try:
                found |= {name: metric.bounds for name, metric in self.rows.measured(arm.runs[0]).metrics.items()}
            except UserError:
                continue  # the arm will say so itself
        return found

    def _gates(self, goal: Goal | None) -> dict[str, Gate]:
        """Arms with the same halving share a gate."""
        together: dict[str, list[Arm]] = {}
        for arm in self.arms:
            if arm.run.stop.halving is not None:
                together.setdefault(identity(arm.run.stop.halving.model_dump(mode="json")), []).append(arm)
        gates = {}
        for arms in together.values():
            halving = arms[0].run.stop.halving
            assert halving is not None
            gate = Gate(halving, {arm.name: arm.planned.group for arm in arms}, goal or "max", self.journal)
            gates.update({arm.name: gate for arm in arms})
        return gates

    def _arms(self, planned: Sequence[PlannedArm], *, again: bool) -> list[Arm]:
        output_dir = self.directory.path.parent
        found: list[tuple[PlannedArm, Any, str, str | None]] = []
        for arm in planned:
            run, fingerprints, error = arm.run, {}, None
            try:
                run = with_paths(arm.run, output_dir, self.directory)
                fingerprints = _fingerprints(self.config, self.rows, run)
            except UserError as problem:
                error = told(problem)
            begins = [run.model.init_from_checkpoint, run.model.load_checkpoint]
            found.append((arm, run, identity(arm.config_hash, fingerprints, begins), error))
            self._fingerprints[arm.name] = fingerprints
        twins = Counter(name for _, _, name, _ in found)
        arms = []
        for plan, run, name, error in found:
            directory = self.directory.arm(plan.name, name, alone=twins[name] == 1)
            record = directory.status()
            if record is not None and again:
                record = _to_do_again(record)
            record = (record or _waiting(plan)).model_copy(
                update={
                    "name": plan.name,
                    "group": plan.group,
                    "cell": plan.cell,
                    "tags": list(run.tags),
                    "config": run.model_dump(mode="json"),
                }
            )
            runs = stage_runs(run, self.config.continual) if error is None else [run]
            directory.begin({"name": plan.name, "config_hash": plan.config_hash, "run": run.model_dump(mode="json")})
            if error is not None:
                record = record.model_copy(update={"training": "failed", "evaluation": "skipped", "error": error})
            arms.append(Arm(plan, run, directory, record, runs))
        write_json(self.directory.path / "data.json", self._data_fingerprints())
        return arms

    def _data_fingerprints(self) -> dict[str, str]:
        """One of each; by arm where they differ."""
        by_side: dict[str, dict[str, list[str]]] = {}
        for arm, sides in self._fingerprints.items():
            for side, value in sides.items():
                by_side.setdefault(side, {}).setdefault(value, []).append(arm)
        found = {}
        for side, values in by_side.items():
            for value, arms in values.items():
                found[side if len(values) == 1 else f"{side} ({', '.join(arms)})"] = value
        return found

    def _write_beginning(self, planned: Sequence[PlannedArm]) -> None:
        earlier = self.directory.config()
        if earlier is not None and earlier["config_hash"] != self.loaded.config_hash:
            self.journal.note("changed", differing=_differing(earlier["config"], self.loaded.resolved))
        given = (
            self.loaded.path.read_text(encoding="utf-8")
            if self.loaded.path.is_file()
            else yaml.safe_dump(self.loaded.resolved, sort_keys=False)
        )
        self.directory.write_config(self.loaded.config_hash, self.loaded.resolved, given)
        self._code = versions(self.loaded.home)
        write_json(self.directory.path / "code.json", self._code)

    def _first_record(self) -> ExperimentRecord:
        earlier = self.directory.record()
        metric, goal = self._selection()
        return ExperimentRecord(
            id=f"{self.config.name}-{self.loaded.config_hash[:8]}",
            name=self.config.name,
            created=earlier.created if earlier else utc_now(),
            status="running",
            config=self.loaded.resolved,
            config_hash=self.loaded.config_hash,
            data_fingerprints=self._data_fingerprints(),
            code=self._code,
            metric=metric,
            goal=goal or "max",
            bounds=self._bounds(),
            arms=[arm.record for arm in self.arms],
            benchmarks=earlier.benchmarks if earlier else [],
        )

    def _told(self, record: ArmRecord) -> None:
        """An arm has news; its end is written down."""
        self.record = self.record.model_copy(update={"arms": [arm.record for arm in self.arms]})
        if record.training in ENDED and record.evaluation in ENDED:
            self._save()

    def _settle(self) -> None:
        """What the arms' states make of the experiment's."""
        states = [arm.record.training for arm in self.arms]
        status: State = "done"
        if any(arm.stop.is_interrupt for arm in self.arms):
            status = "stopped"
        elif any(state not in ENDED for state in states):
            status = "waiting"
        elif all(state in ("failed", "skipped") for state in states):
            status = "failed"
        self.record = self.record.model_copy(update={"status": status, "arms": [arm.record for arm in self.arms]})

    def _save(self) -> None:
        self.directory.write_record(self.record)

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """The first Ctrl-C lets every arm finish its step and save; the second one ends the program at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: Any) -> None:
            self.display.say("stopping after the steps under way; press Ctrl-C again to stop at once")
            for arm in self.arms:
                arm.stop.interrupt()
            signal.signal(signal.SIGINT, before)

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def in_brief(record: ArmRecord, metric: str | None) -> str:
    """How far an arm came, in a line."""
    measured = record.kept or (record.validation[-1] if record.validation else None)
    value = None if measured is None or metric is None else measured.metrics.get(metric)
    reached = "" if value is None else f", {metric} {value:.4g}"
    why = f" ({record.error})" if record.error else ""
    return f"{record.name}: {record.training} after {record.steps} steps{reached}{why}"


def _waiting(plan: PlannedArm) -> ArmRecord:
    return ArmRecord(name=plan.name, group=plan.group, seed=plan.run.seed, config_hash=plan.config_hash)


def _to_do_again(record: ArmRecord) -> ArmRecord | None:
    """Of an arm that ended, for an experiment that is resumed: what failed or was too much is tried once more."""
    if record.training in ("failed", "skipped") or (record.error or "").startswith(OF_BUDGET):
        return None
    if record.evaluation == "failed":
        return record.model_copy(update={"evaluation": "waiting", "error": None})
    return record


def _differing(found: Any, wanted: Any, above: str = "") -> list[str]:
    """Dotted paths of values that are not the same."""
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        return [
            path
            for key in [*found, *(key for key in wanted if key not in found)]
            for path in _differing(found.get(key), wanted.get(key), f"{above}.{key}" if above else str(key))
        ]
    return [] if found == wanted else [above]
