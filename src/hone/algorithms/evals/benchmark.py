"""What a benchmark is: items, how each is asked, and how its answer is graded."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from hone.algorithms.graders.grade import Grader, Task
from hone.algorithms.messages import Message
from hone.errors import UserError
from hone.storage import jsonl


@dataclass(frozen=True)
class Item:
    """One question."""

    id: str
    """The same in every run, so that results can be compared item by item."""
    messages: tuple[Message, ...]
    task: Task
    cluster: str = ""
    """Items that are not independent share it: a subject, a passage. Empty: the item stands alone."""

    @cached_property
    def fingerprint(self) -> str:
        """Of what is asked and what is right: another question under the same name has another one."""
        return fingerprint([self.messages, asdict(self.task)])


Measure = Callable[[Task, Mapping[str, Any]], Sequence[float]]
"""What the details of an answer's grade say beside its score: one share or more, from 0 to 1; they are empty for a
failure."""


@dataclass(frozen=True)
class Benchmark:
    name: str
    items: list[Item]
    grader: Grader
    max_tokens: int
    measures: Mapping[str, Measure] = field(default_factory=dict)
    """Each is averaged over all its values and reported beside the score."""


@dataclass(frozen=True)
class Source:
    """Where a benchmark's rows are and what they mean."""

    read: Callable[[Mapping[str, Any], str], Item]
    """A row and a name for it that is used if it has none of its own; `KeyError` if a column is missing."""
    grader: Callable[[], Grader]
    hub: tuple[str, str | None, str]
    """Dataset, configuration and split on the Hugging Face hub."""
    max_tokens: int = 1024
    subset: str | None = None
    """The column that says of which part of the benchmark a row is. Rows are numbered within their part."""
    configurations: tuple[str, ...] = ()
    """The parts, where the hub has each as a configuration of its own, without that column."""
    measures: Mapping[str, Measure] = field(default_factory=dict)


def load_benchmark(
    name: str, source: Source, path: Path | None = None, limit: int | None = None, subsets: Sequence[str] = ()
) -> Benchmark:
    """From a JSONL file with the dataset's columns, or else from the Hugging Face hub (`pip install 'hone[hub]'`).

    `subsets` are the parts to read, by default all of them; `limit` is for all of them together.

    Raises:
        UserError: a row that cannot be asked, named by its place; two rows with one name; or an unknown subset.
    """
    if limit is not None and limit < 1:
        raise UserError(f"the limit is {limit}; ask one item or more")
    if subsets and source.subset is None:
        raise UserError(f"{name} has no subsets; leave out {', '.join(subsets)}")
    rows = ((line.place, line.read()) for line in jsonl.lines(path)) if path else _hub_rows(source, subsets)
    items: dict[str, Item] = {}
    seen: Counter[str] = Counter()
    for place, row in rows:
        part = str(row.get(source.subset, "")) if source.subset else ""
        number = seen[part]
        seen[part] += 1
        if subsets and part not in subsets:
            continue
        if len(items) == limit:
            break
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
    else:  # all rows were read
        _check_subsets(subsets, seen, str(path or source.hub[0]))
    if not items:
        raise UserError(f"{path or source.hub[0]} holds no items")
    return Benchmark(name, list(items.values()), source.grader(), source.max_tokens, source.measures)


def fingerprint(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, default=_stable)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _stable(value: Any) -> str:
    """Bytes and images by what they hold."""
    content = value.tobytes() if hasattr(value, "tobytes") else value
    return hashlib.blake2b(content).hexdigest() if isinstance(content, bytes) else repr(content)


def question(text: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": text},)


def _hub_rows(source: Source, subsets: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise UserError("reading from the hub needs `pip install 'hone[hub]'`; or give the benchmark's file") from None
    dataset, only, split = source.hub
    if source.configurations:
        _check_subsets(subsets, source.configurations, dataset)
    wanted: list[str | None] = [one for one in source.configurations if not subsets or one in subsets]
    for configuration in wanted or [only]:
        try:
            rows: Iterable[Mapping[str, Any]] = load_dataset(dataset, configuration, split=split)
        except (OSError, ValueError) as error:
            raise UserError(
                f"the hub does not give {dataset} ({configuration}, {split}): {error}. Give its file"
            ) from None
        part = {source.subset: configuration} if source.subset and source.configurations else {}
        for number, row in enumerate(rows):
            yield f"{dataset} {configuration or ''} row {number}", {**part, **row}


def _check_subsets(wanted: Sequence[str], known: Collection[str], where: str) -> None:
    unknown = [one for one in wanted if one not in known]
    if unknown:
        raise UserError(f"{where} has no subset {', '.join(unknown)}; it has {', '.join(sorted(known))}")
