"""`hone diff`: what differs between two runs: settings first, then what came of them."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hone.cli.results import add_results_arguments, find
from hone.errors import UserError

if TYPE_CHECKING:
    from hone.experiments.records import ArmRecord, ExperimentRecord


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for name in ("first", "second"):
        parser.add_argument(name, metavar="RUN", help="EXPERIMENT/ARM, or EXPERIMENT for the whole")
    add_results_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from hone.experiments.compare import diff

    (first, first_whole), (second, second_whole) = (_run(name, args.dir) for name in (args.first, args.second))
    found = diff(first, second, of=(first_whole, second_whole))
    print(found.model_dump_json() if args.json else found.as_text())
    return 0


def _run(name: str, directory: Path) -> "tuple[ArmRecord | ExperimentRecord, ExperimentRecord]":
    """What is named, and the experiment that it is part of."""
    experiment, slash, arm = name.rpartition("/")
    if not slash or Path(name).is_dir():
        whole = find(name, directory)[1]
        return whole, whole
    whole = find(experiment, directory)[1]
    for one in whole.arms:
        if one.name == arm:
            return one, whole
    raise UserError(f"{experiment} has no arm {arm!r}; it has {', '.join(one.name for one in whole.arms)}")
