"""Sealed test sets, opened for the chosen arm and the model as it was before training."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING

from hone.errors import UserError
from hone.experiments.config import BenchmarkConfig, ExperimentConfig, RunConfig, Spec
from hone.experiments.firewall import BASELINE, Ledger, Sealed
from hone.experiments.kinds import plugins
from hone.experiments.records import BenchmarkResult
from hone.experiments.runner.arm import Arm, Shared
from hone.experiments.runner.directory import identity
from hone.experiments.runner.measure import Measured, measure_inference, measure_sampler
from hone.experiments.runner.rows import MeasuredRows, Rows, trained_on
from hone.experiments.runner.usage import Meter

if TYPE_CHECKING:
    from pathlib import Path

    from hone.experiments.data.rows import RowKind
    from hone.experiments.runner.journal import Journal
    from hone.experiments.runner.run import Campaign


def sealed_sets(config: ExperimentConfig, home: Path, runs: Sequence[RunConfig]) -> Iterator[Sealed]:
    """Every benchmark, and the test sides of the runs' own data, still closed."""
    for benchmark in config.benchmarks:
        yield Sealed(benchmark, home)
    for run in runs:
        own = Sealed.of_split(trained_on(run), home)
        if own is not None:
            yield own


def check_overlap(config: ExperimentConfig, home: Path, arms: Sequence[Arm], rows: Rows, journal: Journal) -> None:
    """Compare everything that is trained on with every test set, before anything is trained.

    Raises:
        UserError: rows are on both sides, and the file does not say why they may be.
    """
    done = set()
    for arm in arms:
        if arm.record.training == "failed":
            continue
        for run, sealed in itertools.product(arm.runs, sealed_sets(config, home, arm.runs)):
            key = identity(trained_on(run).model_dump(mode="json"), sealed.benchmark.model_dump(mode="json"))
            if key in done:
                continue
            done.add(key)
            try:
                training = rows.training(run, _kind_of(run))
            except UserError:
                continue  # the arm will say so itself
            report = sealed.check_overlap(training)
            journal.note("overlap", benchmark=sealed.benchmark.name, leaked=report.leaked, waiver=report.waiver)
            if report.failed:
                raise UserError(f"the test set {sealed.benchmark.name!r}: {report.as_text()}")


def _kind_of(run: RunConfig) -> RowKind:
    return plugins.algorithms.make(run.algorithm.kind, run.algorithm.params).learns_from


async def measure_benchmark(
    campaign: Campaign, sealed: Sealed, arm: Arm, shared: Shared, known: Sequence[BenchmarkResult]
) -> AsyncIterator[BenchmarkResult]:
    """What is not known yet of the arm, the baseline and other models. Opening the set is recorded first.

    Raises:
        UserError: it may not be opened any more, or nobody could be asked.
    """
    benchmark = sealed.benchmark
    others = dict(_named_inferences(benchmark))
    subjects = [arm.name, *([BASELINE] if benchmark.baseline else []), *others]
    have = {one.subject for one in known if one.benchmark == benchmark.name}
    missing = [subject for subject in subjects if subject not in have]
    if not missing:
        return
    rows = opened(campaign, sealed, arm, shared)
    for subject in missing:
        if subject in others:
            spec = others[subject]
            model = plugins.inference.make(spec.kind, spec.params)
            measured = await measure_inference(model, rows, seed=arm.run.seed)
        else:
            path = None if subject == BASELINE else arm.record.sampler_path
            measured = await measure_weights(path, rows, arm, shared)
        yield BenchmarkResult(benchmark=benchmark.name, subject=subject, measurement=measured.measurement)


def _named_inferences(benchmark: BenchmarkConfig) -> Iterator[tuple[str, Spec]]:
    """Each by its kind; those of one kind are numbered."""
    seen: Counter[str] = Counter()
    for spec in benchmark.inference:
        seen[spec.kind] += 1
        yield (spec.kind if seen[spec.kind] == 1 else f"{spec.kind} {seen[spec.kind]}"), spec


def opened(campaign: Campaign, sealed: Sealed, arm: Arm, shared: Shared) -> MeasuredRows:
    """The rows behind the seal, for this arm; recorded first."""
    tasks = sealed.open(
        Ledger(campaign.directory.ledger),
        who=f"hone run, experiment {campaign.config.name}",
        why="all arms have ended, and this one is chosen by validation",
        arms=[arm.directory.path.name],  # with its hash: trained anew under another configuration it is another arm
    )
    name = sealed.benchmark.name
    campaign.journal.note("benchmark_opened", benchmark=name, arm=arm.name, fingerprint=sealed.fingerprint())
    return shared.rows.sealed_rows(tasks, sealed.benchmark)


async def measure_weights(path: str | None, rows: MeasuredRows, arm: Arm, shared: Shared) -> Measured:
    """Of the sampler weights at `path`, which the arm left; of its base model without one."""
    speaker = await shared.services.speaker(arm.run.backend, arm.run.model)
    service = speaker.session.service
    if path is None:
        sampler = await service.create_sampling_client(base_model=speaker.model)
    else:
        sampler = await service.create_sampling_client(model_path=path)
    step = 0 if path is None else arm.record.kept_step or 0
    meter = Meter(speaker.session.prices)
    return await measure_sampler(sampler, rows, speaker.renderer, step=step, seed=arm.run.seed, meter=meter)
