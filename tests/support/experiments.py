"""Experiments on the stand-in service: plugins of the kinds that they need, and files to run.

A `fake` backend with the same `name` and home is the same service again, with its checkpoints, as a server on the same
data directory is after a crash.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hone.algorithms.config import Config
from hone.algorithms.graders.grade import Grade, Task
from hone.errors import UserError
from hone.experiments.kinds import plugins
from hone.experiments.kinds.contract import Backend, NoParams, Prices, Session, Verifier
from hone.experiments.loading import LoadedExperiment, experiment_from
from tests.support.fake_tinker import MODEL, FakeService
from tests.support.letters import NAME

SERVICES: dict[Path, FakeService] = {}
"""By home, so that tests can look at them."""
WORDS = [a + b for a in "abcdefgh" for b in "stuv"]


class FakeParams(Config):
    name: str = "one"
    """Another name, another service."""
    broken: bool = False
    """It cannot be opened."""


@plugins.register_backend("fake")
class Fake(Backend[FakeParams]):
    Params = FakeParams

    @contextmanager
    def open(self, home: Path) -> Iterator[Session]:
        if self.params.broken:
            raise UserError("the service does not answer")
        (home / "kept").touch()
        service = SERVICES.setdefault(home.resolve(), FakeService(context_length=1024))
        yield Session(service, [MODEL], Prices(1.0, 0.1, 2.0), service.keep)  # type: ignore[arg-type]


@plugins.register_verifier("begins")
class Begins(Verifier[NoParams]):
    """The answer begins as the gold answer does."""

    def grader(self) -> Any:
        async def grade(task: Task, answer: str) -> Grade:
            return Grade(float(answer[:1] == task.gold[:1]))

        return grade


def rows(count: int = 32) -> list[dict[str, Any]]:
    """Good for every method: `x` is right, `y` is wrong."""
    return [
        {"prompt": word, "chosen": "x", "rejected": "y", "answer": "x", "verifier": "begins"} for word in WORDS[:count]
    ]


def service_of(loaded: LoadedExperiment) -> FakeService:
    """The only one of an experiment."""
    (found,) = [one for home, one in SERVICES.items() if _directory(loaded).resolve() in home.parents]
    return found


def _directory(loaded: LoadedExperiment) -> Path:
    return loaded.home / loaded.config.output_dir / loaded.config.name


BASE: dict[str, Any] = {
    "backend": {"kind": "fake"},
    "model": {"renderer": NAME},
    "algorithm": {"kind": "sft", "params": {"lr": 0.3, "batch_size": 4}},
    "validation": {"every": 2, "metrics": ["nll"]},
}


def experiment(home: Path, values: Mapping[str, Any], *, given: Sequence[Any] | None = None) -> LoadedExperiment:
    """`values` over a run of `BASE` on `given` rows, or `rows()`."""
    data = {"data": {"source": {"kind": "rows", "params": {"rows": list(given) if given is not None else rows()}}}}
    if "continual" in values:  # whose stages have their own
        data = {}
    filled: dict[str, Any] = {"name": "try", "defaults": BASE | data} | dict(values)
    if not {"run", "runs", "matrix"} & filled.keys():
        filled["run"] = {}
    return experiment_from(filled, home)
