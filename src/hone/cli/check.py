"""`hone check`: everything that can be wrong with an experiment, and what it will take, before anything is trained."""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hone.cli.exit_codes import EXIT_DONE, EXIT_PROBLEMS

if TYPE_CHECKING:
    from hone.experiments.check import CheckReport
    from hone.experiments.estimate import Estimate
    from hone.experiments.loading import LoadedExperiment

LISTED = 12
"""Groups of arms that are listed; `--json` has all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="the experiment, YAML")
    add_override_argument(parser)
    parser.add_argument("--shallow", action="store_true", help="the file only: open no data")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_override_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another value for a key, such as run.seed=1 or budget.tokens=100000; may be repeated",
    )


def run(args: argparse.Namespace) -> int:
    _, report = checked(args.file, args.set, deep=not args.shallow)
    print(report.model_dump_json() if args.json else "\n".join(report_lines(report)))
    return EXIT_PROBLEMS if report.problems else EXIT_DONE


def checked(file: Path, overrides: list[str], *, deep: bool = True) -> "tuple[LoadedExperiment | None, CheckReport]":
    """What is wrong with a file. One that cannot be loaded is no experiment yet: there is a report alone."""
    from hone.experiments.check import CheckReport, check
    from hone.experiments.kinds.plugins import load_entry_points
    from hone.experiments.loading import load_experiment
    from hone.experiments.problems import ConfigError

    load_entry_points()
    try:
        loaded = load_experiment(file, overrides)
        return loaded, check(loaded, deep=deep)
    except ConfigError as error:
        return None, CheckReport(name=file.stem, config_hash="", deep=False, arms=[], problems=error.problems)


def report_lines(report: "CheckReport") -> Iterator[str]:
    """For a terminal."""
    for problem in report.problems:
        yield f"problem: {problem}"
    for warning in report.warnings:
        yield f"warning: {warning}"
    if report.arms:
        from hone.experiments.wording import count

        seeds = Counter(arm.group for arm in report.arms)
        listed = [f"{group}{f' ({repeats} seeds)' if repeats > 1 else ''}" for group, repeats in seeds.items()]
        more = f" and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
        yield f"{count(len(report.arms), 'arm')}: {', '.join(listed[:LISTED])}{more}"
    for data in report.data:
        lengths = (
            "" if data.mean_tokens is None else f", {data.mean_tokens:.0f} tokens each, {data.longest_tokens} at most"
        )
        yield f"{data.key}: {data.rows:,} {data.kind} rows{lengths}"
        if data.example is not None:
            yield f"  such as {data.example!r}"
    for overlap in report.overlaps:
        yield f"{overlap.benchmark}: {overlap.leaked} of {overlap.test_rows} test rows are in {overlap.data}"
    if report.estimate is not None:
        yield estimate_line(report.estimate)
    if report.problems:
        yield f"{_count(report.problems, 'problem')}; nothing was begun"
    else:
        yield f"no problems, {_count(report.warnings, 'warning')}" if report.warnings else "nothing is wrong"


def _count(found: Sequence[object], noun: str) -> str:
    return f"{len(found)} {noun}{'s' if len(found) > 1 else ''}"


def estimate_line(estimate: "Estimate") -> str:
    from hone.experiments.runner.usage import tokens

    least, most = tokens(estimate.least), tokens(estimate.most)
    parts = [f"{least:,} to {most:,} tokens" if least < most else f"{most:,} tokens"]
    parts += [f"${estimate.least.cost:.2f} to ${estimate.most.cost:.2f}"] if estimate.most.cost else []
    parts += [f"about {estimate.seconds:.0f} s"] if estimate.seconds is not None else []
    missing = f", without {', '.join(estimate.without)}" if estimate.without else ""
    return f"expected: {', '.join(parts)}{missing}"
