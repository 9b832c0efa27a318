"""What stands before every conversation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from hone.algorithms.config import Config
from hone.experiments.data.parse import QUESTIONS, RowError
from hone.experiments.kinds.contract import RawRow, Transform


class SystemPromptParams(Config):
    text: str = Field(examples=["Answer in one word."])
    """What the system says first."""
    existing: Literal["replace", "keep", "refuse"] = "replace"
    """What happens where a row has a system prompt of its own."""


class SystemPrompt(Transform[SystemPromptParams]):
    """Puts a system message before `messages`, or before the question, which becomes a list of messages."""

    Params = SystemPromptParams

    def apply(self, rows: Iterator[RawRow]) -> Iterator[RawRow]:
        for row in rows:
            column = next((name for name in ("messages", *QUESTIONS) if row.value.get(name) is not None), None)
            if column is None:
                raise RowError(
                    row.place, f"it has none of messages, {', '.join(QUESTIONS)} to put a system prompt before"
                )
            yield row.changed({**row.value, column: self._begun(row, row.value[column])})

    def _begun(self, row: RawRow, said: Any) -> list[Any]:
        messages = _messages(row, said)
        own = bool(messages) and isinstance(messages[0], Mapping) and messages[0].get("role") in ("system", "developer")
        if own and self.params.existing == "refuse":
            raise RowError(row.place, "it has a system prompt already; `existing` says whether it stays")
        if own and self.params.existing == "keep":
            return messages
        return [{"role": "system", "content": self.params.text}, *messages[own:]]


def _messages(row: RawRow, said: Any) -> list[Any]:
    if isinstance(said, str):
        return [{"role": "user", "content": said}]
    if isinstance(said, Sequence):
        return list(said)
    raise RowError(row.place, f"its question is of type {type(said).__name__}; it is a text or a list of messages")
