"""`hone check`: everything that can be wrong with an experiment, and what it will take, before anything is trained."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hone.cli.exit_codes import EXIT_DONE, EXIT_PROBLEMS

if TYPE_CHECKING:
    from hone.experiments.check import CheckReport
    from hone.experiments.loading import LoadedExperiment


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
    print_report(report, as_json=args.json)
    return EXIT_PROBLEMS if report.problems else EXIT_DONE


def checked(file: Path, overrides: list[str], *, deep: bool = True) -> "tuple[LoadedExperiment | None, CheckReport]":
    """What is wrong; a file that cannot be loaded is no experiment yet, and only a report."""
    from hone.experiments.check import CheckReport, check
    from hone.experiments.kinds.plugins import load_entry_points
    from hone.experiments.loading import load_experiment
    from hone.experiments.problems import ConfigError

    load_entry_points()
    try:
        loaded = load_experiment(file, overrides)
    except ConfigError as error:
        return None, CheckReport(problems=error.problems)
    return loaded, check(loaded, deep=deep)


def print_report(report: "CheckReport", *, as_json: bool) -> None:
    print(report.model_dump_json() if as_json else report.as_text())
