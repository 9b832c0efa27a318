"""From what a file says about data to rows: read, transformed, divided into sides, put in an order.

sides = load_sides(run.data, home)
rows = training_rows(sides, "chat", seed=run.seed)
measured = held_out_rows(sides.validation, "task", limit=200)
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hone.errors import UserError
from hone.experiments.config import DataConfig, MixturePart, Spec, SplitConfig
from hone.experiments.data.mixture import Indices, Keys, mixed, shuffled
from hone.experiments.data.parse import SHOWN, RowError, RowErrors, content_id, parse
from hone.experiments.data.rows import RowKind, StandardRow
from hone.experiments.data.split import Side, side_of
from hone.experiments.data.stored import RowStore
from hone.experiments.kinds import plugins
from hone.experiments.kinds.contract import RawRow


@dataclass(frozen=True)
class RowSource:
    """The raw rows of one side. They are read anew each time, in the sources' order, and never held."""

    config: DataConfig
    home: Path
    side: Side

    def __iter__(self) -> Iterator[RawRow]:
        """Raises `UserError` if the data cannot be read, and for the test side always."""
        if self.side == "test":
            raise UserError("the test side is sealed: it is read through `firewall.Sealed.open`, which is recorded")
        return _rows_of(self)

    def rows(self, kind: RowKind) -> Iterator[StandardRow]:
        """Raises `RowError` at the first row that is not of this kind."""
        return (parse(row, kind) for row in self)


@dataclass(frozen=True)
class Sides:
    train: RowSource
    """What is trained on."""
    validation: RowSource
    """What arms are compared on."""
    test: RowSource
    """Cannot be read here."""


def load_sides(config: DataConfig, home: Path, *, own_validation: bool = False) -> Sides:
    """The three sides of a data set. Nothing is read yet.

    Args:
        home: Relative paths start here.
        own_validation: There is validation data elsewhere (or this is it): without a `split` all rows are in `train`.
    """
    if config.split is None:
        config = config.model_copy(update={"split": SplitConfig(validation=0.0 if own_validation else 0.1)})
    return Sides(
        RowSource(config, home, "train"), RowSource(config, home, "validation"), RowSource(config, home, "test")
    )


def training_rows(
    sides: Sides, kind: RowKind, *, seed: int, shuffle: bool | None = None, limit: int | None = None
) -> Sequence[StandardRow]:
    """The training rows as a method sees them: in an order that depends on their content and the seed alone.

    Several sources are mixed by their weights; there are as many draws as rows, so that a source that gives more than
    it has gives rows again. Rows beyond some megabytes wait on disk.

    Args:
        shuffle: Without it, what the data's configuration says. Rows that are not shuffled have the sources' order.
        limit: At most so many; without it, what the data's configuration says.

    Raises:
        RowErrors: some rows are not of this kind; it names them.
        UserError: the data cannot be read, or there is none.
    """
    config = sides.train.config
    shuffle = config.shuffle if shuffle is None else shuffle
    limit = config.limit if limit is None else limit
    weights = [part.weight for part in config.mixture] or [1.0]
    read: Iterable[RawRow] = sides.train
    if not shuffle and len(weights) == 1:
        read = itertools.islice(read, limit)
    store: RowStore[StandardRow] = RowStore()
    keys, parts = array("Q"), array("Q")
    for raw, row in _parsed(read, kind):
        store.append(row)
        keys.append(_key(row))
        parts.append(raw.part)
    if not len(store):
        raise UserError("there are no training rows: the sources are empty, or all rows are filtered out or held out")
    draws = len(store) if limit is None else min(limit, len(store))
    order = _order(np.frombuffer(keys, np.uint64), np.frombuffer(parts, np.uint64), weights, draws, seed, shuffle)
    return store.in_order(order)


def held_out_rows(source: Iterable[RawRow], kind: RowKind, *, limit: int | None = None) -> list[StandardRow]:
    """Rows to measure on: the same ones always, in the same order, each with a name of its own.

    Which rows a limit leaves depends on their content alone; equal rows are numbered.

    Raises:
        RowErrors: some rows are not of this kind; it names them.
        UserError: the data cannot be read, or there is none.
    """
    parsed = (row for _, row in _parsed(source, kind))
    rows = sorted(parsed, key=_key) if limit is None else heapq.nsmallest(limit, parsed, key=_key)
    if not rows:
        raise UserError("there are no rows to measure on: the sources are empty, or the split leaves this side without")
    seen: Counter[str] = Counter()
    named: list[StandardRow] = []
    for row in rows:
        seen[row.id] += 1
        named.append(row if seen[row.id] == 1 else dataclasses.replace(row, id=f"{row.id}#{seen[row.id]}"))
    return named


def rows_behind_the_seal(source: RowSource) -> Iterator[RawRow]:
    """The rows of a side, the test side too. For `firewall` only, which writes down who looks."""
    return _rows_of(source)


def transformed(rows: Iterator[RawRow], transforms: Sequence[Spec]) -> Iterator[RawRow]:
    """Rows after transforms, in their order."""
    for spec in transforms:
        rows = plugins.transforms.make(spec.kind, spec.params).apply(rows)
    return rows


@dataclass
class _Errors:
    """What was wrong so far."""

    first: list[RowError] = field(default_factory=list)
    count: int = 0

    def add(self, error: RowError) -> None:
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(error)

    def check(self) -> None:
        if self.count:
            raise RowErrors(self.first, self.count)


def _rows_of(source: RowSource) -> Iterator[RawRow]:
    split = source.config.split
    for row in _all_rows(source.config, source.home):
        if split is None or side_of(row, split) == source.side:
            yield row


def _all_rows(config: DataConfig, home: Path) -> Iterator[RawRow]:
    parts = [MixturePart(source=config.source)] if config.source is not None else config.mixture
    each = (_part(part, number, home) for number, part in enumerate(parts))
    return transformed(itertools.chain.from_iterable(each), config.transforms)


def _part(part: MixturePart, number: int, home: Path) -> Iterator[RawRow]:
    source = plugins.sources.make(part.source.kind, part.source.params)
    for row in transformed(source.read(home), part.transforms):
        yield dataclasses.replace(row, part=number)


def _parsed(rows: Iterable[RawRow], kind: RowKind) -> Iterator[tuple[RawRow, StandardRow]]:
    """Each row and its standard form. Bad ones are collected, and raised together at the end."""
    errors = _Errors()
    for raw in rows:
        try:
            row = parse(raw, kind)
        except RowError as error:
            errors.add(error)
            continue
        if not errors.count:
            yield raw, row
    errors.check()


def _key(row: StandardRow) -> int:
    """A number made of the row's content, as its name is."""
    return int(content_id(row.id)[:16], 16)


def _order(keys: Keys, parts: Keys, weights: Sequence[float], draws: int, seed: int, shuffle: bool) -> Indices:
    if len(weights) == 1:
        return shuffled(keys, seed)[:draws] if shuffle else np.arange(draws)
    rows = [np.flatnonzero(parts == number) for number in range(len(weights))]
    for number, found in enumerate(rows):
        if not len(found):
            raise UserError(
                f"source {number + 1} of the mixture has no training rows; leave it out, or look at its transforms"
            )
    return mixed(rows, keys, weights, draws, seed=seed, shuffle=shuffle)
