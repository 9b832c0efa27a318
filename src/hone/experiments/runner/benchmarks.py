"""Sealed test sets, opened for the chosen arm and the model as it was before training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from hone.experiments.config import BenchmarkConfig, ExperimentConfig, RunConfig
from hone.experiments.firewall import Ledger, Sealed
from hone.experiments.kinds import plugins
from hone.experiments.records import BenchmarkResult
from hone.experiments.runner.arm import Arm, Shared
from hone.experiments.runner.measure import Measured, measure_inference, measure_sampler
from hone.experiments.runner.rows import MeasuredRows, named_metrics
from hone.experiments.runner.usage import Meter

if TYPE_CHECKING:
    from pathlib import Path

    from hone.experiments.runner.run import Campaign

BASELINE = "baseline"


def sealed_sets(config: ExperimentConfig, home: Path, run: RunConfig) -> Iterator[tuple[BenchmarkConfig, Sealed]]:
    """Every benchmark, still closed."""
    for benchmark in config.benchmarks:
        yield benchmark, Sealed(benchmark, home)


async def measure_benchmark(
    campaign: Campaign,
    benchmark: BenchmarkConfig,
    sealed: Sealed,
    arm: Arm,
    shared: Shared,
    known: Sequence[BenchmarkResult],
) -> list[BenchmarkResult]:
    """What is not known yet of the arm, the baseline and other models. Opening the set is recorded first.

    Raises:
        UserError: it may not be opened any more, or nobody could be asked.
    """
    fingerprint = sealed.fingerprint()
    subjects = [arm.name, *([BASELINE] if benchmark.baseline else []), *(spec.kind for spec in benchmark.inference)]
    have = {one.subject for one in known if one.benchmark == benchmark.name}
    missing = [subject for subject in subjects if subject not in have]
    if not missing:
        return []
    tasks = sealed.open(
        Ledger(campaign.directory.ledger),
        who=f"experiment {campaign.config.name}",
        why="all arms have ended, and one is chosen by validation",
        arms=[arm.name],
    )
    campaign.journal.note("benchmark_opened", benchmark=benchmark.name, arm=arm.name, fingerprint=fingerprint)
    rows = MeasuredRows(
        metrics=named_metrics(benchmark.metrics),
        tasks=tasks[: benchmark.limit],
        graders=shared.rows.graders(tasks[: benchmark.limit], benchmark.verifier),
        samples=benchmark.samples,
        max_tokens=benchmark.max_tokens,
        temperature=benchmark.temperature,
    )
    results = []
    for subject in missing:
        measured = await _measured(subject, benchmark, rows, arm, shared)
        results.append(BenchmarkResult(benchmark=benchmark.name, subject=subject, measurement=measured.measurement))
    return results


async def _measured(subject: str, benchmark: BenchmarkConfig, rows: MeasuredRows, arm: Arm, shared: Shared) -> Measured:
    for spec in benchmark.inference:
        if spec.kind == subject:
            return await measure_inference(plugins.inference.make(spec.kind, spec.params), rows, seed=arm.run.seed)
    speaker = await shared.services.speaker(arm.run.backend, arm.run.model)
    service = speaker.session.service
    if subject == BASELINE:
        sampler = await service.create_sampling_client(base_model=speaker.model)
    else:
        sampler = await service.create_sampling_client(model_path=arm.record.sampler_path)
    step = 0 if subject == BASELINE else arm.record.kept_step or 0
    meter = Meter(speaker.session.prices)
    return await measure_sampler(sampler, rows, speaker.renderer, step=step, seed=arm.run.seed, meter=meter)
