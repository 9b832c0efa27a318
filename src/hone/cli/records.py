"""For commands about what the database keeps: they open it beside a server that may be running, ask, and print."""

import argparse
import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hone.paths import DataDirectory, default_data_dir
from hone.settings import load_settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")


def add_record_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", type=Path, help="of the server (default: HONE_DATA_DIR or ~/.local/share/hone)")
    parser.add_argument("--json", action="store_true", help="print JSON on standard output")


def ask(args: argparse.Namespace, work: "Callable[[Connection], T]") -> T:
    """Do `work` in one transaction on the database of the chosen data directory."""
    from hone.storage.database import Database

    settings = load_settings()
    if args.data_dir is not None:
        settings = replace(settings, data_dir=args.data_dir)
    data = DataDirectory((settings.data_dir or default_data_dir()).expanduser().resolve())
    data.make()

    async def run() -> T:
        database = Database(settings.database_url or f"sqlite:///{data.database}", settings.sqlite_synchronous)
        try:
            return await database.run(work)
        finally:
            database.close()

    return asyncio.run(run())


def warn_without_prices(limit: float | None) -> None:
    if limit is not None and not load_settings().prices:
        print("note: HONE_PRICES is not set here; without prices the limit has no effect", file=sys.stderr)


def print_table(rows: list[dict[str, Any]]) -> None:
    """One line per row, in columns."""
    lines = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)] if rows else []
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))] if lines else []
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def when(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return "-" if value in (None, "") else str(value)
