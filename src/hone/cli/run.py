"""`hone run`: an experiment from its file to its conclusion. Interrupted, it goes on with `--resume`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hone.cli.check import add_override_argument, checked, report_lines
from hone.cli.exit_codes import (
    EXIT_BUDGET,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_PROBLEMS,
)
from hone.errors import UserError

if TYPE_CHECKING:
    from hone.experiments.check import CheckReport
    from hone.experiments.records import ExperimentRecord


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="the experiment, YAML")
    add_override_argument(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the plan and what it will take; train nothing")
    parser.add_argument("--resume", action="store_true", help="go on with an experiment that was interrupted")
    parser.add_argument("--yes", action="store_true", help="do not ask before something that costs money is begun")
    parser.add_argument("--json", action="store_true", help="print one JSON object when it ends")


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from hone.cli.campaign import campaign_display
    from hone.cli.experiments import as_text
    from hone.cli.shapes import Plan
    from hone.experiments.config import BudgetConfig
    from hone.experiments.runner.run import experiment_directory, run_experiment
    from hone.experiments.summary import summarise

    loaded, report = checked(args.file, args.set)
    if loaded is None or report.problems or args.dry_run:
        plan = Plan(
            directory=None if loaded is None else str(experiment_directory(loaded).path),
            budget=BudgetConfig() if loaded is None else loaded.config.budget,
            check=report,
        )
        print(plan.model_dump_json() if args.json else "\n".join(report_lines(report)))
        return _refusal(report, loaded is not None) if report.problems else EXIT_DONE
    if not args.yes:
        _ask(report)
    # With --json, standard output is for the object alone.
    with campaign_display(Console(stderr=args.json)) as display:
        record = run_experiment(loaded, resume=args.resume, display=display)
    directory = experiment_directory(loaded).path
    summary = summarise(record, directory)
    if args.json:
        print(summary.model_dump_json())
    else:
        print(as_text(summary))
        if (prose := directory / "conclusion.md").is_file():
            print(f"\n{prose.read_text(encoding='utf-8').rstrip()}")
        if summary.report is not None:
            print(f"\nreport: {summary.report}")
    return exit_code(record)


def _refusal(report: "CheckReport", is_loaded: bool) -> int:
    """An experiment with which nothing is wrong but that the budget is too small for it."""
    too_much = is_loaded and all(problem.key.startswith("budget") for problem in report.problems)
    return EXIT_BUDGET if too_much else EXIT_PROBLEMS


def _ask(report: "CheckReport") -> None:
    """Before money is spent, and only where somebody can answer."""
    cost = report.estimate.most.cost if report.estimate is not None else 0.0
    if not cost or not sys.stdin.isatty():
        return
    answer = input(f"This may cost up to ${cost:.2f}. Begin? [y/N] ")
    if answer.strip().lower() not in ("y", "yes"):
        raise UserError("nothing was begun")


def exit_code(record: "ExperimentRecord") -> int:
    """Of a run that came to its end, or was interrupted."""
    if record.status == "stopped":
        return EXIT_INTERRUPTED
    if any((arm.error or "").startswith("budget:") for arm in record.arms):
        return EXIT_BUDGET
    whole = all(arm.training in ("done", "stopped") and arm.evaluation == "done" for arm in record.arms)
    return EXIT_DONE if whole and not record.failed_benchmarks else EXIT_FAILED
