"""Data sets of the Hugging Face hub, or in its form on this machine, with `datasets`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from hone.algorithms.config import Config
from hone.errors import UserError
from hone.experiments.kinds.contract import RawRow, Source


class HuggingFaceParams(Config):
    name: str = Field(examples=["HuggingFaceH4/ultrafeedback_binarized"])
    """The data set's id on the hub, or a directory with one, from the experiment file's directory."""
    config: str | None = None
    """One of its configurations, if it has several."""
    split: str = "train"
    """One of its splits; a part of one is written `train[:1000]`."""
    revision: str | None = None
    """A commit, tag or branch; a commit makes sure that it is the same data on every day."""
    streaming: bool = False
    """Read while it is downloaded, in place of a download to the cache on disk first."""


class HuggingFace(Source[HuggingFaceParams]):
    """Reads one split. Needs `pip install 'hone[hub]'`; rows are read from disk, or from the network, one by one."""

    Params = HuggingFaceParams

    def read(self, home: Path) -> Iterator[RawRow]:
        try:
            from datasets import load_dataset
        except ImportError:
            raise UserError("reading data sets of the hub needs `pip install 'hone[hub]'`") from None
        told = self.params
        here = home / told.name
        try:
            rows: Iterable[Mapping[str, Any]] = load_dataset(
                str(here) if here.is_dir() else told.name,
                told.config,
                split=told.split,
                revision=told.revision,
                streaming=told.streaming,
            )
        except Exception as error:  # the library has no one kind of error
            raise UserError(
                f"the data set {told.name!r} (configuration {told.config}, split {told.split}) cannot be loaded: "
                f"{type(error).__name__}: {error}"
            ) from error
        for number, value in enumerate(rows, 1):
            yield RawRow(f"{told.name}/{told.split}:{number}", value)
