"""Rows of any form as conversations to learn from."""

from __future__ import annotations

from collections.abc import Iterator

from hone.algorithms.config import Config
from hone.experiments.data.parse import parse
from hone.experiments.data.rows import ChatRow
from hone.experiments.kinds.contract import RawRow, Transform


class ToChatParams(Config):
    keep: bool = True
    """Whether other columns stay."""


class ToChat(Transform[ToChatParams]):
    """Makes `messages` of a question and its answer, of the better one of two answers, or of what a task should get."""

    Params = ToChatParams

    def apply(self, rows: Iterator[RawRow]) -> Iterator[RawRow]:
        for row in rows:
            chat = parse(row, "chat")
            assert isinstance(chat, ChatRow)
            tools = {"tools": list(chat.tools)} if chat.tools else {}
            yield row.changed({"messages": list(chat.messages), **tools, **(chat.facts if self.params.keep else {})})
