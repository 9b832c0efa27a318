"""Each row once."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from hone.algorithms.config import Config
from hone.experiments.data.parse import RowError, canonical
from hone.experiments.dotted import value_at
from hone.experiments.kinds.contract import RawRow, Transform


class DedupeParams(Config):
    columns: list[str] | None = Field(default=None, min_length=1)
    """Columns that have to be equal (dots go into objects); without them all are compared."""
    normalise: bool = True
    """Case, white space and forms of Unicode make no difference."""


class Dedupe(Transform[DedupeParams]):
    """Keeps the first of equal rows. It remembers 16 bytes of every row that it keeps."""

    Params = DedupeParams

    def apply(self, rows: Iterator[RawRow]) -> Iterator[RawRow]:
        seen: set[bytes] = set()
        for row in rows:
            content = self._content(row)
            digest = hashlib.sha256(canonical(_normal(content) if self.params.normalise else content)).digest()[:16]
            if digest not in seen:
                seen.add(digest)
                yield row

    def _content(self, row: RawRow) -> Any:
        if self.params.columns is None:
            return row.value
        try:
            return [value_at(row.value, name) for name in self.params.columns]
        except KeyError as error:
            raise RowError(row.place, f"it has no column {error.args[0]!r}; it has {', '.join(row.value)}") from None


def _normal(value: Any) -> Any:
    if isinstance(value, str):
        return " ".join(unicodedata.normalize("NFKC", value).casefold().split())
    if isinstance(value, Mapping):
        return {name: _normal(one) for name, one in value.items()}
    return [_normal(one) for one in value] if isinstance(value, list | tuple) else value
