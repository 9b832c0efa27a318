"""Supervised fine-tuning: learn the answers of conversations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

from hone.experiments.data.rows import ChatRow
from hone.experiments.kinds.algorithms.params import SupervisedParams, beginning, shuffled, watched
from hone.experiments.kinds.contract import Algorithm, Training

if TYPE_CHECKING:
    import tinker

    from hone.algorithms.renderers import TrainOnWhat
    from hone.algorithms.run_directory import Checkpoint


class SftParams(SupervisedParams):
    train_on: Literal["last_assistant_message", "last_assistant_turn", "all_assistant_messages", "customized"] = (
        "all_assistant_messages"
    )
    """Which messages are learned; `customized`: those whose `trainable` is true."""
    max_length: PositiveInt | None = None
    """Tokens of one conversation; a longer one loses its end. Which do is said, and listed in `run/cut_rows.jsonl`."""


CUT_ROWS = "cut_rows.jsonl"


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
        if self.params.max_length is not None:
            _tell_cut(training, train_on, self.params.max_length)

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


def _tell_cut(training: Training, train_on: TrainOnWhat, max_length: int) -> None:
    """Before the first step, so every row is rendered once more; only where there is a limit."""
    from hone.algorithms.data.cut import summary
    from hone.experiments.kinds.algorithms.examples import cut_rows
    from hone.storage import jsonl

    rows = [row for row in training.rows if isinstance(row, ChatRow)]
    cut = cut_rows(training.renderer, rows, train_on, max_length)
    training.run_dir.mkdir(parents=True, exist_ok=True)
    jsonl.write(training.run_dir / CUT_ROWS, [asdict(row) for row in cut])
    if cut:
        training.display.say(summary(cut, len(rows), max_length))
