"""`hone diff`: what differs between two runs: settings first, then what came of them."""

import argparse

from hone.cli.experiments import print_difference
from hone.cli.results import add_results_arguments, find
from hone.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for name in ("first", "second"):
        parser.add_argument(name, metavar="RUN", help="EXPERIMENT/ARM, or EXPERIMENT for the whole")
    add_results_arguments(parser)


def run(args: argparse.Namespace) -> int:
    first, second = (_run(name, args) for name in (args.first, args.second))
    if type(first) is not type(second):
        raise UserError(f"{args.first} and {args.second} are an arm and an experiment; compare two of a kind")
    print_difference(first, second, as_json=args.json)
    return 0


def _run(name: str, args: argparse.Namespace) -> object:
    experiment, slash, arm = name.rpartition("/")
    if not slash or (args.dir / name / "record.json").exists():
        return find(name, args.dir)[1]
    _, record = find(experiment, args.dir)
    for one in record.arms:
        if one.name == arm:
            return one
    raise UserError(f"{experiment} has no arm {arm!r}; it has {', '.join(one.name for one in record.arms)}")
