"""What was measured, and its file."""

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peers.systems import SERVER


@dataclass
class Result:
    """One row of the table."""

    chapter: str
    name: str
    unit: str
    """tokens/s, ms, s or MB"""
    tokens: int | None = None
    """Of one piece of work, where the unit is tokens/s."""
    values: dict[str, list[float]] = field(default_factory=dict)
    """For each system that can do it, round by round: seconds, or megabytes."""
    missing: dict[str, str] = field(default_factory=dict)
    """For each system that cannot: the reason."""

    def drop(self, system: str, reason: str) -> None:
        self.missing[system] = reason
        self.values.pop(system, None)

    def shown(self, system: str) -> float:
        """The median in the row's unit."""
        median = statistics.median(self.values[system])
        match self.unit:
            case "tokens/s":
                assert self.tokens is not None
                return self.tokens / median
            case "ms":
                return 1e3 * median
            case _:
                return median

    def ratio(self, system: str, ours: str = SERVER) -> float:
        """How many times better ours is, less time or less memory: the median over the rounds that both were in, which
        are the first ones."""
        pairs = zip(self.values[ours], self.values[system], strict=False)
        return statistics.median(theirs / ours for ours, theirs in pairs)


@dataclass
class Report:
    """All that the page needs: `machine` and `versions` of the run, `conditions` of each chapter, and the rows."""

    machine: dict[str, str] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    conditions: dict[str, str] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)

    def add(self, new: Iterable[Result]) -> None:
        """Rows that were there already are replaced; the others keep their place."""
        for result in new:
            keys = [(r.chapter, r.name) for r in self.results]
            if (key := (result.chapter, result.name)) in keys:
                self.results[keys.index(key)] = result
            else:
                self.results.append(result)


def read_report(path: Path) -> Report:
    """An empty one if there is no such file."""
    if not path.exists():
        return Report()
    fields: dict[str, Any] = json.loads(path.read_text())
    results = [Result(**row) for row in fields.pop("results")]
    return Report(results=results, **fields)


def write_report(report: Report, path: Path) -> None:
    path.write_text(json.dumps(asdict(report), indent=1, default=str) + "\n")
