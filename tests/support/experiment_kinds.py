"""Small plugins of each kind, so that tests of experiment files rest on no built-in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from pydantic import PositiveFloat, PositiveInt

from hone.algorithms.config import Config
from hone.algorithms.graders.grade import Grader
from hone.algorithms.run_directory import Checkpoint
from hone.experiments.config import Spec
from hone.experiments.data.rows import RowKind
from hone.experiments.kinds.contract import (
    Algorithm,
    Backend,
    Metric,
    RawRow,
    Session,
    Source,
    TaskScores,
    Training,
    Transform,
    Verifier,
)
from hone.experiments.kinds.plugins import REGISTRIES
from tests.support.registries import own_plugins


class ImitateParams(Config):
    lr: PositiveFloat = 1e-4
    batch_size: PositiveInt = 8
    epochs: PositiveInt = 1


class Imitate(Algorithm[ImitateParams]):
    Params = ImitateParams
    learns_from: RowKind = "chat"

    def steps(self, rows: int) -> int:
        return -(-rows // self.params.batch_size) * self.params.epochs

    async def train(self, training: Training) -> Checkpoint:
        raise NotImplementedError


class PreferParams(ImitateParams):
    beta: PositiveFloat = 0.1


class Prefer(Imitate):
    Params = PreferParams
    learns_from: RowKind = "preference"


class ListedParams(Config):
    path: str
    limit: PositiveInt | None = None


class Listed(Source[ListedParams]):
    Params = ListedParams

    def read(self, home: Path) -> Iterator[RawRow]:
        for number, line in enumerate((home / self.params.path).read_text().splitlines(), 1):
            yield RawRow(f"{self.params.path}:{number}", {"text": line})


class Shorter(Transform[Any]):
    def apply(self, rows: Iterator[RawRow]) -> Iterator[RawRow]:
        return (row.changed({"text": row.value["text"][:5]}) for row in rows)


class BenchParams(Config):
    base_url: str | None = None
    api_key_env: str = "BENCH_KEY"
    precision: str = "float32"


class Bench(Backend[BenchParams]):
    Params = BenchParams

    def open(self, home: Path) -> AbstractContextManager[Session]:
        raise NotImplementedError


class AllOfParams(Config):
    verifiers: list[Spec] = []


class AllOf(Verifier[AllOfParams]):
    Params = AllOfParams

    def grader(self) -> Grader:
        raise NotImplementedError


class ScoreParams(Config):
    k: PositiveInt = 1


class Score(Metric[ScoreParams]):
    Params = ScoreParams

    def task_value(self, scores: TaskScores) -> float:
        return max(scores.values)


PLUGINS: Sequence[tuple[str, str, type[Any]]] = (
    ("algorithm", "imitate", Imitate),
    ("algorithm", "prefer", Prefer),
    ("source", "listed", Listed),
    ("transform", "shorter", Shorter),
    ("backend", "bench", Bench),
    ("verifier", "all_of_them", AllOf),
    ("metric", "score", Score),
)


@pytest.fixture
def kinds() -> Iterator[None]:
    """The plugins above, for one test; what the test registers goes with them."""
    with own_plugins():
        for registry, name, plugin in PLUGINS:
            REGISTRIES[registry].register(name)(plugin)
        yield
