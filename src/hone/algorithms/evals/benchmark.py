"""What a benchmark is: items, how each is asked, and how its answer is graded."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hone.algorithms.graders.grade import Grader, Task
from hone.algorithms.messages import Message
from hone.errors import UserError


@dataclass(frozen=True)
class Item:
    """One question."""

    id: str
    """The same in every run, so that results can be compared item by item."""
    messages: tuple[Message, ...]
    task: Task
    cluster: str = ""
    """Items that are not independent share it: a subject, a passage. Empty: the item stands alone."""


@dataclass(frozen=True)
class Benchmark:
    name: str
    items: list[Item]
    grader: Grader
    max_tokens: int


@dataclass(frozen=True)
class Source:
    """Where a benchmark's rows are and what they mean."""

    read: Callable[[Mapping[str, Any], str], Item]
    """A row and a name for it that is used if it has none of its own; `KeyError` if a column is missing."""
    grader: Callable[[], Grader]
    hub: tuple[str, str | None, str]
    """Dataset, configuration and split on the Hugging Face hub."""
    max_tokens: int = 1024


def load_benchmark(name: str, source: Source, path: Path | None = None, limit: int | None = None) -> Benchmark:
    """From a JSONL file with the dataset's columns, or else from the Hugging Face hub (`pip install 'hone[hub]'`).

    Raises:
        UserError: a row that cannot be asked, named by its place; or two rows with one name.
    """
    if limit is not None and limit < 1:
        raise UserError(f"the limit is {limit}; ask one item or more")
    rows = _file_rows(path) if path else _hub_rows(*source.hub)
    items: dict[str, Item] = {}
    for number, (place, row) in enumerate(itertools.islice(rows, limit)):
        try:
            item = source.read(row, str(number))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{place} is no item of {name}: {error!r}; its columns are {', '.join(row)}. Mend the row, or choose "
                "the benchmark that the file belongs to"
            ) from None
        if item.id in items:
            raise UserError(f"{place} has the name {item.id!r} of an item before it")
        items[item.id] = item
    if not items:
        raise UserError(f"{path or source.hub[0]} holds no items")
    return Benchmark(name, list(items.values()), source.grader(), source.max_tokens)


def question(text: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": text},)


def _file_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        # Not `splitlines`: to it the line separators that JSON allows within a text are ends of lines too.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{number} is not JSON ({error.msg})") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}:{number} is a {type(row).__name__}, not an object")
        yield f"{path}:{number}", row


def _hub_rows(dataset: str, configuration: str | None, split: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise UserError("reading from the hub needs `pip install 'hone[hub]'`; or give the benchmark's file") from None
    try:
        rows: Iterable[Mapping[str, Any]] = load_dataset(dataset, configuration, split=split)
    except (OSError, ValueError) as error:
        raise UserError(f"the hub does not give {dataset} ({configuration}, {split}): {error}. Give its file") from None
    for number, row in enumerate(rows):
        yield f"{dataset} row {number}", row
