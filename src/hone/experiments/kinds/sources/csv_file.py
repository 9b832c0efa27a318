"""A table of texts, its first line the names of the columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from hone.algorithms.config import Config
from hone.errors import UserError
from hone.experiments.data.parse import RowError
from hone.experiments.kinds.contract import RawRow, Source
from hone.experiments.kinds.sources.files import matching, opened, shown

LONGEST = 1 << 30
"""Characters of a cell; Python's own limit is below the length of a long document."""


class CsvFileParams(Config):
    path: str = Field(examples=["data/train.csv"])
    """The file, from the experiment file's directory; a pattern (`data/*.csv`) means all that match. `.gz` is
    unpacked."""
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    """What stands between cells; a tab is written "\\t"."""


class CsvFile(Source[CsvFileParams]):
    """Reads row by row, so the file may be larger than memory. Every value is a text."""

    Params = CsvFileParams

    def read(self, home: Path) -> Iterator[RawRow]:
        csv.field_size_limit(LONGEST)
        for path in matching(self.params.path, home):
            yield from self._rows(path, shown(path, home))

    def _rows(self, path: Path, name: str) -> Iterator[RawRow]:
        with io.TextIOWrapper(opened(path), encoding="utf-8-sig", newline="") as text:
            table = csv.reader(text, delimiter=self.params.delimiter, strict=True)
            line = 1
            try:
                header = next(table, [])
                if not header or len(set(header)) != len(header):
                    found = ", ".join(header) or "nothing"
                    raise UserError(f"{name}:1 names the columns, each once; it has {found}")
                line = table.line_num + 1
                for cells in table:
                    if cells and len(cells) != len(header):
                        raise RowError(
                            f"{name}:{line}", f"it has {len(cells)} cells; the first line names {len(header)} columns"
                        )
                    if cells:
                        yield RawRow(f"{name}:{line}", dict(zip(header, cells, strict=True)))
                    line = table.line_num + 1
            except csv.Error as error:
                raise RowError(f"{name}:{line}", f"it cannot be read: {error}") from None
            except UnicodeDecodeError:
                raise RowError(f"{name}:{line}", "it, or a row soon after it, is not UTF-8") from None
