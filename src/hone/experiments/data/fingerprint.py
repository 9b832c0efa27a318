"""A short name for all rows of a data set: another one, if any of them is another."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from typing import Any

from hone.experiments.data.parse import canonical
from hone.experiments.data.rows import StandardRow, TaskRow
from hone.experiments.kinds.contract import RawRow


def fingerprint(rows: Iterable[RawRow | StandardRow]) -> str:
    """Of the rows in whatever order; a row that comes twice counts twice. Places do not count."""
    total, count = 0, 0
    for row in rows:
        # A sum of hashes, where XOR would let pairs of equal rows vanish.
        total = (total + int.from_bytes(hashlib.sha256(_content(row)).digest())) % 2**256
        count += 1
    return hashlib.sha256(f"{count}:{total:064x}".encode()).hexdigest()


def ordered_fingerprint(rows: Iterable[RawRow | StandardRow]) -> str:
    """Of the rows in their order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(hashlib.sha256(_content(row)).digest())
    return digest.hexdigest()


def _content(row: RawRow | StandardRow) -> bytes:
    if isinstance(row, RawRow):
        return canonical(row.value)
    return canonical([type(row).__name__, _fields(row)])


def _fields(row: StandardRow) -> dict[str, Any]:
    values = {one.name: getattr(row, one.name) for one in dataclasses.fields(row) if one.name != "place"}
    if isinstance(row, TaskRow) and row.verifier is not None:
        values["verifier"] = dataclasses.asdict(row.verifier)
    return values
