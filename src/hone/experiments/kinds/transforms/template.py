"""Questions, answers and messages written from other columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from hone.algorithms.config import Config
from hone.experiments.data.parse import RowError
from hone.experiments.kinds.contract import RawRow, Transform
from hone.experiments.templates import Template, TemplateError


class MessageTemplate(Config):
    role: Literal["system", "developer", "user", "assistant"]
    """Who says it."""
    content: str
    """A text with columns in braces."""


class TemplateParams(Config):
    """Each is a text with columns in braces, such as `{context}\\n\\n{question}`; dots go into objects."""

    prompt: str | None = Field(default=None, examples=["Question: {question}"])
    """Makes the column `prompt`."""
    answer: str | None = None
    """Makes the column `answer`."""
    messages: list[MessageTemplate] | None = None
    """Makes the column `messages`."""
    columns: dict[str, str] = {}
    """Makes columns of any names."""

    @model_validator(mode="after")
    def _something(self) -> TemplateParams:
        if not _texts(self) and self.messages is None:
            raise ValueError("give at least one of `prompt`, `answer`, `messages` and `columns`")
        for text in [*_texts(self).values(), *(message.content for message in self.messages or [])]:
            try:
                Template(text)
            except TemplateError as error:
                raise ValueError(str(error)) from None
        return self

    @field_validator("messages")
    @classmethod
    def _not_empty(cls, messages: list[MessageTemplate] | None) -> list[MessageTemplate] | None:
        if messages == []:
            raise ValueError("a conversation has at least one message")
        return messages


class FromTemplate(Transform[TemplateParams]):
    """Writes new columns from those that are there, which stay. A column that is missing or null is an error."""

    Params = TemplateParams

    def apply(self, rows: Iterator[RawRow]) -> Iterator[RawRow]:
        texts = {name: Template(text) for name, text in _texts(self.params).items()}
        messages = [(message.role, Template(message.content)) for message in self.params.messages or []]
        for row in rows:
            try:
                made: dict[str, Any] = {name: template.fill(row.value) for name, template in texts.items()}
                if messages:
                    made["messages"] = [{"role": role, "content": said.fill(row.value)} for role, said in messages]
            except TemplateError as error:
                raise RowError(row.place, str(error)) from None
            yield row.changed({**row.value, **made})


def _texts(params: TemplateParams) -> dict[str, str]:
    named = {"prompt": params.prompt, "answer": params.answer}
    return {name: text for name, text in named.items() if text is not None} | params.columns
