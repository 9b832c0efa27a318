"""The experiment's data: three numbers to sort downwards, which the embedded model gets right half of the time."""

import random
from collections.abc import Iterator
from pathlib import Path

from pydantic import PositiveInt

from hone.algorithms.config import Config
from hone.experiments.kinds.contract import RawRow, Source
from hone.experiments.kinds.plugins import register_source


class SortingParams(Config):
    rows: PositiveInt = 600
    """Problems, no two of the same numbers."""
    seed: int = 0


@register_source("sorting")
class Sorting(Source[SortingParams]):
    """Each row has what every method needs: a prompt, a right and a wrong order, and a verifier."""

    Params = SortingParams

    def read(self, home: Path) -> Iterator[RawRow]:
        rng = random.Random(self.params.seed)
        seen: set[tuple[int, ...]] = set()
        while len(seen) < self.params.rows:
            numbers = rng.sample(range(100), 3)
            right = sorted(numbers, reverse=True)
            wrong = rng.choice((right[::-1], [right[0], *right[:0:-1]], right[1:] + right[:1]))
            if tuple(right) in seen:
                continue
            seen.add(tuple(right))
            row = {
                "prompt": f"Sort descending: {_list(numbers)}",
                "chosen": _list(right),
                "rejected": _list(wrong),
                "answer": _list(right),
                "verifier": {"kind": "exact"},
            }
            yield RawRow(f"sorting {len(seen)}", row)


def _list(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
