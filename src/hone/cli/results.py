"""For commands that read what experiments left behind: where their directories lie, and their records."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hone.experiments.records import ExperimentRecord


def add_results_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dir",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="where results are, the experiments' `output_dir` (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON on standard output")


def find_all(directory: Path) -> "list[tuple[Path, ExperimentRecord]]":
    """Every experiment below a directory, newest first; none where nothing was run yet."""
    from hone.experiments.runner.directory import read_record
    from hone.experiments.runner.index import Index

    if not directory.is_dir():
        return []
    return [(one.directory, read_record(one.directory)) for one in Index(directory).list()]


def find(name: str, directory: Path) -> "tuple[Path, ExperimentRecord]":
    """An experiment by its name, its id or the beginning of one, or by the path of its directory.

    Raises:
        UserError: there is none, or there are several; it says which there are.
    """
    from hone.experiments.runner.directory import RECORD, read_record
    from hone.experiments.runner.index import Index

    path = Path(name)
    if not (path / RECORD).is_file():
        path = Index(directory).find(name).directory
    return path, read_record(path)
