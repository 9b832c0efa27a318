"""`hone history`: a digest of past experiments, to decide what to try next."""

import argparse
import json

from hone.cli.results import add_results_arguments, find_all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tag", help="only experiments that have this tag")
    add_results_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from hone.cli.records import print_table
    from hone.experiments.history import digest

    records = [record for _, record in find_all(args.dir) if not args.tag or args.tag in record.config.get("tags", ())]
    found = digest(records)
    if args.json:
        print(json.dumps({"experiments": found}))
    elif found:
        print_table(found)
    else:
        print(f"There are no experiments in {args.dir}.")
    return 0
