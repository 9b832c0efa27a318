"""`hone init`: a project to start from: an experiment with a comment for each part, data to learn from, a plugin.

The embedded model learns its task, writing `the 5 of March` as `03-05`, in a minute or two.
"""

import argparse
import json
import zlib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from hone.errors import UserError

Side = Literal["train", "validation", "exam"]

MONTHS = tuple("January February March April May June July August September October November December".split())
PHRASINGS = ("{day} {month}", "{month} {day}", "the {day} of {month}", "on {month} {day}", "{day}. {month}")
HELD_OUT_PERCENT = 10
"""Of the dates, for validation; as many again for the exam."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "directory", nargs="?", type=Path, default=Path(), metavar="DIR", help="made if need be (default: this one)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    directory: Path = args.directory
    files = project_files()
    taken = [name for name in files if (directory / name).exists()]
    if taken:
        raise UserError(f"{', '.join(taken)} in {directory.resolve()} would be overwritten; choose another directory")
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    if args.json:
        print(json.dumps({"directory": str(directory.resolve()), "files": list(files)}))
        return 0
    there = [f"cd {directory}"] if directory != Path() else []
    print(f"Wrote {', '.join(files)} in {directory.resolve()}. Next:\n")
    print("\n".join(f"  {line}" for line in (*there, "hone check experiment.yaml", "hone run experiment.yaml")))
    return 0


def project_files() -> dict[str, str]:
    """Every file of a new project, by its path in it."""
    folder = resources.files("hone") / "assets" / "project"
    texts = {
        name: (folder / name).read_text(encoding="utf-8")
        for name in ("experiment.yaml", "plugins.py", "README.md", "AGENTS.md")
    }
    lines: dict[Side, list[str]] = {"train": [], "validation": [], "exam": []}
    for side, row in rows():
        lines[side].append(json.dumps(row))
    return texts | {f"data/{side}.jsonl": "\n".join(found) + "\n" for side, found in lines.items()}


def rows() -> Iterator[tuple[Side, dict[str, Any]]]:
    """Every date in every phrasing. All phrasings of a date lie on one side, so what is tested is new to the model."""
    for number, month in enumerate(MONTHS, start=1):
        for day in range(1, 29):
            side, gold = side_of(number, day), f"{number:02}-{day:02}"
            for phrasing in PHRASINGS:
                question = f"Date: {phrasing.format(day=day, month=month)}"
                if side == "train":
                    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": gold}]
                    yield side, {"messages": turns}
                else:
                    # The phrasings of one date are not independent questions; intervals take that into account.
                    yield side, {"prompt": question, "gold": gold, "cluster": gold}


def side_of(month: int, day: int) -> Side:
    """The same on every machine and in every version."""
    part = zlib.crc32(f"date {month} {day}".encode()) % 100
    return "exam" if part < HELD_OUT_PERCENT else "validation" if part < 2 * HELD_OUT_PERCENT else "train"
