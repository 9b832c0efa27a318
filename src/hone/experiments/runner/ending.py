"""What follows when all arms have ended: the choice, the sealed test sets, samples, the conclusion, the page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from hone.errors import UserError
from hone.experiments.conclusion import conclude
from hone.experiments.firewall import Ledger
from hone.experiments.kinds import plugins
from hone.experiments.records import BenchmarkResult, ExperimentRecord, SampleRecord, StageResult
from hone.experiments.report import write_report
from hone.experiments.runner.arm import Arm, Shared, told
from hone.experiments.runner.benchmarks import measure_benchmark, measure_weights, opened, sealed_sets
from hone.experiments.runner.continual import Stages, forgetting, stage_weights
from hone.experiments.runner.directory import write_json
from hone.experiments.runner.journal import Lines
from hone.experiments.runner.rows import MeasuredRows
from hone.experiments.selection import choose
from hone.storage.atomic import write_text

if TYPE_CHECKING:
    from hone.experiments.runner.run import Campaign


async def end_experiment(campaign: Campaign, shared: Shared) -> ExperimentRecord:
    """The record with everything that is concluded from the arms. Done again, it asks and opens nothing twice."""
    record = campaign.record
    arm = _chosen(campaign, record)
    if arm is not None:
        campaign.journal.note("chosen", arm=arm.name, group=arm.planned.group)
        record = await _with_benchmarks(campaign, record, arm, shared)
        record = record.model_copy(update={"samples": await _samples(campaign, arm, shared)})
    found = _forgetting(campaign)
    if arm is not None:
        sealed, failed = await _tested_stages(campaign, arm, shared)
        record = record.model_copy(update={"failed_benchmarks": {**record.failed_benchmarks, **failed}})
        tested = {(one.arm, one.on) for one in sealed}
        found = [one for one in found if (one.arm, one.on) not in tested] + sealed
    openings = list(Ledger(campaign.directory.ledger).openings)
    record = record.model_copy(update={"forgetting": found, "openings": openings})
    return _concluded(campaign, record)


def _chosen(campaign: Campaign, record: ExperimentRecord) -> Arm | None:
    """The arm to serve: by validation alone."""
    if record.metric is None:
        return None
    try:
        name = choose(record.arms, record.metric, record.goal).arm
    except UserError as error:
        campaign.journal.note("no_choice", error=told(error))
        return None
    return next(arm for arm in campaign.arms if arm.name == name)


async def _with_benchmarks(campaign: Campaign, record: ExperimentRecord, arm: Arm, shared: Shared) -> ExperimentRecord:
    """Each result is written down before the next is asked for."""
    done = Lines(campaign.directory.path / "benchmarks.jsonl")
    results: list[BenchmarkResult] = []
    for sealed in sealed_sets(campaign.config, campaign.loaded.home, arm.runs):
        # Of these very rows and, what is an arm's, of this very arm: another one may have had its name.
        rows, name = sealed.fingerprint(), arm.directory.path.name
        known = [
            BenchmarkResult.model_validate(row["result"])
            for row in done.rows
            if row["rows"] == rows and row["arm"] in (None, name)
        ]
        results += known
        try:
            async for result in measure_benchmark(campaign, sealed, arm, shared, known):
                whose = name if result.subject == arm.name else None
                done.append({"rows": rows, "arm": whose, "result": result.model_dump(mode="json")})
                results.append(result)
        except Exception as error:  # the arms are trained and chosen; what is missing is said, and can be asked again
            failed = {**record.failed_benchmarks, sealed.benchmark.name: told(error)}
            record = record.model_copy(update={"failed_benchmarks": failed})
            campaign.journal.note("benchmark_failed", benchmark=sealed.benchmark.name, error=told(error))
            campaign.display.say(f"the benchmark {sealed.benchmark.name} has no result: {told(error)}")
    return record.model_copy(update={"benchmarks": results})


def _forgetting(campaign: Campaign) -> list[StageResult]:
    """What every stage of every arm made of all of them."""
    continual = campaign.config.continual
    if continual is None:
        return []
    names = [stage.name for stage in continual.stages]
    found: list[StageResult] = []
    for arm in campaign.arms:
        if arm.record.training != "done":
            continue
        stages = Stages(arm.runs, continual, campaign.rows)
        parts = [campaign.rows.measured(run) for run in arm.runs]
        found += forgetting(arm.name, arm.record.validation, stages.ends(), names, parts)
    return found


async def _tested_stages(campaign: Campaign, arm: Arm, shared: Shared) -> tuple[list[StageResult], dict[str, str]]:
    """Stages that have a benchmark, of the chosen arm: it is opened once for what every stage left. And why some lack
    results."""
    continual = campaign.config.continual
    wanted = {} if continual is None else {one.name: one.benchmark for one in continual.stages if one.benchmark}
    if continual is None or not wanted:
        return [], {}
    done = Lines(arm.directory.path / "stages.jsonl")
    results = [StageResult.model_validate(row) for row in done.rows]
    have = {(one.after, one.on) for one in results}
    sealed_by_name = {one.benchmark.name: one for one in sealed_sets(campaign.config, campaign.loaded.home, arm.runs)}
    rows: dict[str, MeasuredRows] = {}
    failed: dict[str, str] = {}
    for name, benchmark in wanted.items():
        for after, path in stage_weights(Stages(arm.runs, continual, campaign.rows), continual, arm):
            if (after, name) in have:
                continue
            try:
                if benchmark not in rows:
                    rows[benchmark] = opened(campaign, sealed_by_name[benchmark], arm, shared)
                measured = await measure_weights(path, rows[benchmark], arm, shared)
            except Exception as error:  # as above
                failed[benchmark] = told(error)
                campaign.journal.note("benchmark_failed", benchmark=benchmark, stage=name, error=told(error))
                break
            result = StageResult(arm=arm.name, after=after, on=name, measurement=measured.measurement)
            done.append(result.model_dump(mode="json"))
            results.append(result)
    return results, failed


async def _samples(campaign: Campaign, arm: Arm, shared: Shared) -> list[SampleRecord]:
    """A few validation rows, answered before and after training; asked once for an arm."""
    from hone.experiments.runner.samples import before_and_after

    count = campaign.config.report.samples
    file = arm.directory.path / "before_after.json"
    if file.exists():
        return [SampleRecord.model_validate(one) for one in json.loads(file.read_text(encoding="utf-8"))][:count]
    if not count:
        return []
    try:
        speaker = await shared.services.speaker(arm.run.backend, arm.run.model)
        found = await before_and_after(speaker, arm.runs, arm.record, shared.rows, count)
    except Exception as error:  # samples are for people; the evidence does not rest on them
        campaign.journal.note("samples_failed", error=told(error))
        return []
    write_json(file, [one.model_dump(mode="json") for one in found])
    return found


def _concluded(campaign: Campaign, record: ExperimentRecord) -> ExperimentRecord:
    directory = campaign.directory
    conclusion = conclude(record)
    values = conclusion.model_dump(mode="json")
    record = record.model_copy(update={"conclusion": values})
    write_json(directory.path / "conclusion.json", values)
    write_text(directory.path / "conclusion.md", conclusion.as_text().rstrip() + "\n")
    if campaign.config.report.html:
        write_report(record, directory.report)
    for spec in campaign.config.stores:
        try:
            plugins.stores.make(spec.kind, spec.params).conclude(record.name, values)
        except Exception as error:  # another place that wants the result; the directory has it
            campaign.journal.note("store_failed", store=spec.kind, error=told(error))
    return record
