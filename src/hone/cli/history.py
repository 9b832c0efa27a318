"""`hone history`: a digest of past experiments, to decide what to try next."""

import argparse
from typing import TYPE_CHECKING, Any

from hone.cli.results import add_results_arguments, find_all

if TYPE_CHECKING:
    from hone.experiments.summary import HistoryEntry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tag", help="only experiments that have this tag")
    parser.add_argument("--verdict", choices=("supported", "refuted", "inconclusive", "none"), help="only those")
    parser.add_argument("--contains", metavar="TEXT", help="only those whose name, description or hypothesis has it")
    parser.add_argument("--last", type=int, metavar="N", help="only the newest so many")
    add_results_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from hone.cli.records import print_table
    from hone.experiments.history import digest
    from hone.experiments.summary import History, HistoryEntry

    records = [record for _, record in find_all(args.dir)]
    chosen = digest(records, tag=args.tag, verdict=args.verdict, contains=args.contains, last=args.last)
    history = History(experiments=[HistoryEntry.model_validate(one) for one in chosen])
    if args.json:
        print(history.model_dump_json())
    elif history.experiments:
        print_table([_line(one) for one in history.experiments])
    else:
        print(f"There are no experiments in {args.dir}.")
    return 0


def _line(entry: "HistoryEntry") -> dict[str, Any]:
    effect = entry.effect
    return {
        "name": entry.name,
        "verdict": entry.verdict,
        "effect": None if effect is None else f"{effect['value']:+.3g}",
        "best": None if entry.best is None else entry.best["group"],
        "tokens": f"{entry.tokens:,}",
        "hypothesis": entry.hypothesis,
        "next": entry.next[0] if entry.next else None,
    }
