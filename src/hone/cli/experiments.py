"""`hone experiments`: what was tried and what came of it, from the records that experiments left behind."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hone.cli.results import add_results_arguments, find, find_all

if TYPE_CHECKING:
    from hone.experiments.conclusion import Conclusion
    from hone.experiments.records import ExperimentRecord
    from hone.experiments.summary import Summary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="list | show | compare | conclude")
    listing = verbs.add_parser("list", help="every experiment in a directory, newest first")
    showing = verbs.add_parser("show", help="one experiment: its arms, what they reached and what they took")
    comparing = verbs.add_parser("compare", help="what differs between two experiments, in settings and in results")
    concluding = verbs.add_parser("conclude", help="the verdict, from recorded numbers alone; writes the report anew")
    showing.add_argument("name", help="of the experiment, or the path of its directory")
    concluding.add_argument("name", help="of the experiment, or the path of its directory")
    comparing.add_argument("names", nargs=2, metavar="NAME", help="experiments, or paths of their directories")
    for verb in (listing, showing, comparing, concluding):
        add_results_arguments(verb)


def run(args: argparse.Namespace) -> int:
    match args.verb:
        case "list":
            _list(args)
        case "show":
            _show(args)
        case "compare":
            _compare(args)
        case "conclude":
            _conclude(args)
    return 0


def _list(args: argparse.Namespace) -> None:
    from hone.cli.records import print_table
    from hone.experiments.summary import Listing, summarise

    summaries = [summarise(record, path) for path, record in find_all(args.dir)]
    if args.json:
        print(Listing(experiments=summaries).model_dump_json())
    elif summaries:
        print_table([_line(one) for one in summaries])
    else:
        print(f"There are no experiments in {args.dir}.")


def _line(summary: "Summary") -> dict[str, Any]:
    done = sum(arm.training in ("done", "stopped") for arm in summary.arms)
    return {
        "name": summary.name,
        "status": summary.status,
        "arms": f"{done}/{len(summary.arms)}",
        "verdict": (summary.conclusion or {}).get("verdict"),
        "created": summary.created[:16],
        "hypothesis": summary.hypothesis,
    }


def _show(args: argparse.Namespace) -> None:
    from hone.experiments.summary import summarise

    path, record = find(args.name, args.dir)
    summary = summarise(record, path)
    print(summary.model_dump_json() if args.json else as_text(summary))


def as_text(summary: "Summary") -> str:
    """For a terminal."""
    lines = [f"{summary.name}: {summary.status}, {summary.directory}"]
    if summary.hypothesis:
        lines.append(f"hypothesis: {summary.hypothesis}")
    width = max((len(arm.name) for arm in summary.arms), default=0)
    for arm in summary.arms:
        why = f"  ({arm.error})" if arm.error else ""
        lines.append(
            f"  {arm.name:<{width}}  {arm.training:<8} {arm.steps}/{arm.total_steps}  {_values(arm.metrics)}{why}"
        )
    for benchmark, subjects in summary.benchmarks.items():
        for subject, metrics in subjects.items():
            lines.append(f"  {benchmark} of {subject}: {_values(metrics)}")
    used = summary.usage
    tokens = used.training_tokens + used.prefill_tokens + used.sample_tokens
    lines.append(f"took {tokens:,} tokens{f', ${used.cost:.4f}' if used.cost else ''}")
    return "\n".join(lines)


def _values(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def _compare(args: argparse.Namespace) -> None:
    from hone.experiments.compare import diff

    first, second = (find(name, args.dir)[1] for name in args.names)
    found = diff(first, second)
    print(found.model_dump_json() if args.json else found.as_text())


def _conclude(args: argparse.Namespace) -> None:
    from hone.cli.shapes import Concluded

    path, record = find(args.name, args.dir)
    conclusion, report = conclude(path, record)
    if args.json:
        whole = Concluded(**conclusion.model_dump(), report=None if report is None else str(report))
        print(whole.model_dump_json())
        return
    print(conclusion.as_text())
    if report is not None:
        print(f"\nreport: {report}")


def conclude(path: Path, record: "ExperimentRecord") -> "tuple[Conclusion, Path | None]":
    """The verdict, and the page where the experiment wants one."""
    from hone.experiments.conclusion import conclude as from_record
    from hone.experiments.report import write_report

    conclusion = from_record(record)
    if not record.config.get("report", {}).get("html", True):
        return conclusion, None
    page = path / "report.html"
    write_report(record.model_copy(update={"conclusion": conclusion.model_dump(mode="json")}), page)
    return conclusion, page
