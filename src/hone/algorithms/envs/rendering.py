"""What environments and judges need of chat messages and of a renderer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Literal, NotRequired, Protocol, TypedDict

import tinker

from hone.errors import UserError


class MessageError(UserError):
    """A message that does not have the right form."""


class FunctionCall(TypedDict):
    name: str
    arguments: str
    """JSON, as the model wrote it."""


class ToolCall(TypedDict):
    type: Literal["function"]
    id: NotRequired[str]
    function: FunctionCall


class UnparsedToolCall(TypedDict):
    raw_text: str
    error: str


class Message(TypedDict):
    role: str
    content: str | list[Any]
    tool_calls: NotRequired[list[ToolCall]]
    unparsed_tool_calls: NotRequired[list[UnparsedToolCall]]
    tool_call_id: NotRequired[str]
    name: NotRequired[str]


class ToolSpec(TypedDict):
    """OpenAI's form: `{"type": "function", "function": {"name", "description", "parameters"}}`."""

    type: Literal["function"]
    function: dict[str, Any]


class Termination(StrEnum):
    STOP_SEQUENCE = "stop_sequence"
    EOS = "eos"
    MALFORMED = "malformed"

    @property
    def is_clean(self) -> bool:
        return self is not Termination.MALFORMED


class Renderer(Protocol):
    @property
    def has_extension_property(self) -> bool: ...

    def build_generation_prompt(
        self, messages: Sequence[Any], *, tools: Sequence[Any] = (), prefill: str = ""
    ) -> tinker.ModelInput: ...

    def parse_response(self, response: Sequence[int], *, tools: Sequence[Any] = ()) -> tuple[Message, Termination]: ...

    def get_stop_sequences(self) -> list[int] | list[str]: ...


def text_of(message: Message) -> str:
    """What the message says, without its reasoning and its images."""
    if isinstance(message["content"], str):
        return message["content"]
    return "".join(part["text"] for part in message["content"] if part["type"] == "text")


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """The call's arguments as an object; `MessageError` if they are none."""
    text = call["function"]["arguments"]
    try:
        value = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise MessageError(f"the arguments of {call['function']['name']} are not JSON: {error}") from error
    if not isinstance(value, dict):
        raise MessageError(f"the arguments of {call['function']['name']} must be an object")
    return value
