"""Supervised fine-tuning: learn the answers of conversations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

from hone.experiments.data.rows import ChatRow
from hone.experiments.kinds.algorithms.params import SupervisedParams, beginning, shuffled, watched
from hone.experiments.kinds.contract import Algorithm, Training

if TYPE_CHECKING:
    import tinker

    from hone.algorithms.run_directory import Checkpoint


class SftParams(SupervisedParams):
    train_on: Literal["last_assistant_message", "last_assistant_turn", "all_assistant_messages", "customized"] = (
        "all_assistant_messages"
    )
    """Which messages are learned; `customized`: those whose `trainable` is true."""
    max_length: PositiveInt | None = None
    """Tokens of one conversation; a longer one loses its end."""


class Sft(Algorithm[SftParams]):
    Params = SftParams
    learns_from = "chat"

    def steps(self, rows: int) -> int:
        return self.params.steps(rows)

    async def train(self, training: Training) -> Checkpoint:
        from hone.algorithms import sft
        from hone.algorithms.renderers import TrainOnWhat
        from hone.experiments.kinds.algorithms.examples import chat_datums

        train_on = TrainOnWhat(self.params.train_on)

        async def prepare(rows: Sequence[ChatRow]) -> Sequence[tinker.Datum]:
            return [
                datum for row in rows for datum in chat_datums(training.renderer, row, train_on, self.params.max_length)
            ]

        config = sft.SftConfig(
            **beginning(training, self.params), batch_size=self.params.batch_size, shuffle=shuffled(training)
        )
        return await sft.train(
            config, training.service, training.rows, training.run_dir, prepare=prepare, **watched(training)
        )
