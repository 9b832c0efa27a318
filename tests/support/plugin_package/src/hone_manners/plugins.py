"""An algorithm, a verifier and a backend. Torch and the SDK are imported where they are used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, PositiveInt

from hone.algorithms.config import Config
from hone.experiments.data.rows import ChatRow
from hone.experiments.kinds.algorithms.sft import Sft, SftParams
from hone.experiments.kinds.contract import Algorithm, Backend, Session, Training, Verifier
from hone.experiments.kinds.plugins import register_algorithm, register_backend, register_verifier

if TYPE_CHECKING:
    from hone.algorithms.graders.grade import Grader, Task
    from hone.algorithms.run_directory import Checkpoint


class ShortFirstParams(SftParams):
    longest: PositiveInt = 10_000
    """Characters of a conversation; longer ones are left out."""


@register_algorithm("short_first")
class ShortFirst(Algorithm[ShortFirstParams]):
    """Supervised fine-tuning that sees short conversations before long ones."""

    Params = ShortFirstParams
    learns_from = "chat"

    def steps(self, rows: int) -> int:
        return self._sft().steps(rows)

    async def train(self, training: Training) -> Checkpoint:
        rows = sorted((row for row in training.rows if _size(row) <= self.params.longest), key=_size)
        assert training.run.data is not None
        in_order = training.run.model_copy(update={"data": training.run.data.model_copy(update={"shuffle": False})})
        return await self._sft().train(replace(training, rows=rows, run=in_order))

    def _sft(self) -> Sft:
        return Sft(SftParams.model_validate(self.params.model_dump(exclude={"longest"})))


def _size(row: object) -> int:
    assert isinstance(row, ChatRow)
    return sum(len(str(message["content"])) for message in row.messages)


class PoliteParams(Config):
    words: list[str] = Field(default=["please", "thank"], min_length=1)
    """Any of them makes an answer polite."""


@register_verifier("polite")
class Polite(Verifier[PoliteParams]):
    """Answers have a polite word."""

    Params = PoliteParams

    def grader(self) -> Grader:
        from hone.algorithms.graders.grade import Grade

        async def grade(task: Task, answer: str) -> Grade:
            return Grade(float(any(word in answer.lower() for word in self.params.words)))

        return grade


class OwnServerParams(Config):
    models: list[str] = []
    """What it serves, as `[NAME=]DIR`; without any, the embedded model."""


@register_backend("own_server")
class OwnServer(Backend[OwnServerParams]):
    """A server of the experiment's own, whatever the environment names."""

    Params = OwnServerParams

    @contextmanager
    def open(self, home: Path) -> Iterator[Session]:
        from hone.client.connect import service_client
        from hone.client.embedded import embedded_server

        with (
            embedded_server(home, models=self.params.models) as server,
            service_client(server.url, server.api_key) as service,
        ):
            yield Session(service, list(server.models))
