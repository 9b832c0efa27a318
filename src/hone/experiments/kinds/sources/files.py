"""Which files a path in an experiment file means, and their bytes."""

from __future__ import annotations

import glob
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from hone.errors import UserError


def matching(path: str, home: Path) -> list[Path]:
    """The file of this path, or all files of a pattern such as `data/*.jsonl`, in the order of their names.

    Raises:
        UserError: there is none.
    """
    whole = str(home / Path(path).expanduser())
    if (found := Path(whole)).is_file():
        return [found]
    files = [Path(one) for one in sorted(glob.glob(whole, recursive=True)) if Path(one).is_file()]
    if not files:
        what = (
            "is a directory; name its files, such as " + f"{path.rstrip('/')}/*" if found.is_dir() else "is not there"
        )
        raise UserError(f"the data file {path!r} {what} (looked for {whole})")
    return files


def shown(path: Path, home: Path) -> str:
    """The path as people know it: from the experiment's directory if it lies there."""
    try:
        return str(path.resolve().relative_to(home.resolve()))
    except ValueError:
        return str(path)


def opened(path: Path) -> IO[bytes]:
    """Its bytes; what ends with `.gz` is unpacked."""
    try:
        return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines with something in them and their numbers, from 1. Only line feeds end lines: JSON may hold the others."""
    with opened(path) as stream:
        try:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield number, line
        except (OSError, EOFError) as error:
            raise UserError(f"{path} cannot be read to its end: {error}") from error
