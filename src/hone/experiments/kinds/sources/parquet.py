"""Parquet files, with pyarrow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from hone.algorithms.config import Config
from hone.errors import UserError
from hone.experiments.kinds.contract import RawRow, Source
from hone.experiments.kinds.sources.files import matching, shown

BATCH = 1000
"""Rows in memory at a time."""


class ParquetParams(Config):
    path: str = Field(examples=["data/train.parquet"])
    """The file, from the experiment file's directory; a pattern (`data/*.parquet`) means all that match."""


class Parquet(Source[ParquetParams]):
    """Reads some rows at a time, so the file may be larger than memory. Needs `pip install 'hone[hub]'`."""

    Params = ParquetParams

    def read(self, home: Path) -> Iterator[RawRow]:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            raise UserError("reading Parquet needs pyarrow: `pip install 'hone[hub]'`") from None
        for path in matching(self.params.path, home):
            name = shown(path, home)
            number = 0
            try:
                with parquet.ParquetFile(path) as file:
                    for batch in file.iter_batches(batch_size=BATCH):
                        for value in batch.to_pylist():
                            number += 1
                            yield RawRow(f"{name}:{number}", value)
            except (OSError, pyarrow.ArrowException) as error:
                raise UserError(f"{name} cannot be read after row {number}: {error}") from None
