"""Conversations as tasks: the last answer becomes the gold one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hone.algorithms.config import Config
from hone.algorithms.messages import text_of
from hone.experiments.config import Spec
from hone.experiments.data.parse import RowError, parse
from hone.experiments.data.rows import ChatRow
from hone.experiments.kinds.contract import RawRow, Transform


class ToTaskParams(Config):
    verifier: Spec | None = None
    """Written into every row; without it the data's verifier, or the row's own, grades answers."""


class ToTask(Transform[ToTaskParams]):
    """Makes `prompt` of all that comes before the last answer, and `answer` of its text. Other columns stay."""

    Params = ToTaskParams

    def apply(self, rows: Iterator[RawRow]) -> Iterator[RawRow]:
        for row in rows:
            chat = parse(row, "chat")
            assert isinstance(chat, ChatRow)
            *prompt, answer = chat.messages
            if not prompt:
                raise RowError(row.place, "it has an answer and no question")
            made: dict[str, Any] = {"prompt": prompt, "answer": text_of(answer)}
            if self.params.verifier is not None:
                made["verifier"] = self.params.verifier.model_dump()
            yield row.changed({**chat.facts, **made})
