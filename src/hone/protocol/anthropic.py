"""The bodies of the Anthropic-compatible routes."""

from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from hone.errors import UserError
from hone.protocol.chat import (
    StopStrings,
    Strict,
    Temperature,
    Text,
    Tokens,
    TopP,
    check_keys,
    joined_text,
    mixed,
    only,
    part_text,
    picture,
    to_template,
)
from hone.protocol.types import Image

_BLOCKS = {
    "text": ("type", "text", "cache_control", "citations"),
    "image": ("type", "source", "cache_control"),
    "tool_use": ("type", "id", "name", "input", "cache_control", "caller"),
    "tool_result": ("type", "tool_use_id", "content", "is_error", "cache_control"),
}


class Message(Strict):
    role: Literal["user", "assistant"]
    content: str | list[dict[str, Any]]

    @field_validator("content")
    @classmethod
    def _readable(cls, content: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
        for block in content if isinstance(content, list) else ():
            kind = block.get("type")
            if kind not in _BLOCKS:
                raise ValueError(f"content holds a block of type {kind!r}; this server's models read text only")
            check_keys(block, _BLOCKS[kind])
            _check_block(block)
        return content

    @model_validator(mode="after")
    def _who_shows(self) -> "Message":
        if self.images and self.role != "user":
            raise ValueError("a message of the assistant holds an image; only the user's may")
        return self

    @cached_property
    def images(self) -> list[Image]:
        blocks = self.content if isinstance(self.content, list) else []
        return [_image(block) for block in blocks if block["type"] == "image"]

    def to_template(self) -> list[dict[str, Any]]:
        """Results of tools are messages of their own in a template; what else is in the message follows them."""
        if isinstance(self.content, str):
            return [{"role": self.role, "content": self.content}]
        results = [
            {"role": "tool", "tool_call_id": block["tool_use_id"], "content": joined_text(block.get("content") or "")}
            for block in self.content
            if block["type"] == "tool_result"
        ]
        calls = [
            {"id": block["id"], "type": "function", "function": {"name": block["name"], "arguments": block["input"]}}
            for block in self.content
            if block["type"] == "tool_use"
        ]
        images = iter(self.images)
        parts = [
            part_text(block) if block["type"] == "text" else next(images)
            for block in self.content
            if block["type"] in ("text", "image")
        ]
        if results and not parts:
            return results
        message: dict[str, Any] = {"role": self.role, "content": to_template(mixed(parts))}
        return [*results, message | {"tool_calls": calls} if calls else message]


def _image(block: dict[str, Any]) -> Image:
    source = block.get("source")
    if not isinstance(source, dict) or source.get("type") != "base64":
        raise ValueError("the source of an image must be of type 'base64'; this server fetches nothing")
    check_keys(source, ("type", "media_type", "data"))
    data, media_type = source.get("data"), source.get("media_type")
    if not isinstance(data, str) or not isinstance(media_type, str):
        raise ValueError("the source of an image needs media_type and data")
    try:
        return picture(data, media_type)
    except UserError as error:
        raise ValueError(str(error)) from None


def _check_block(block: dict[str, Any]) -> None:
    wanted: dict[str, type] = {}
    if block["type"] == "text":
        part_text(block)
    elif block["type"] == "image":
        pass  # read once, with the message
    elif block["type"] == "tool_use":
        wanted = {"id": str, "name": str, "input": dict}
    else:
        wanted = {"tool_use_id": str}
        if not isinstance(joined_text(block.get("content") or ""), str):
            raise ValueError("the content of a tool_result must be a text or a list of text blocks")
    for name, kind in wanted.items():
        if not isinstance(block.get(name), kind):
            raise ValueError(f"a block of type {block['type']!r} needs {name!r} as {kind.__name__}")


class Tool(Strict):
    name: str
    description: str | None = None
    input_schema: dict[str, Any]
    type: Annotated[Any, only("custom")] = None
    cache_control: Any = None
    strict: Annotated[Any, only(False)] = None

    def to_template(self) -> dict[str, Any]:
        described = {"name": self.name, "description": self.description, "parameters": self.input_schema}
        return {"type": "function", "function": {name: value for name, value in described.items() if value is not None}}


class ToolChoice(Strict):
    type: Literal["auto", "none"]
    disable_parallel_tool_use: Annotated[Any, only(False)] = None


class Thinking(Strict):
    type: Literal["disabled"]


class CountTokens(Strict):
    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    system: Text | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    cache_control: Any = None

    def conversation(self) -> list[dict[str, Any]]:
        system = [{"role": "system", "content": self.system}] if self.system else []
        return system + [shown for message in self.messages for shown in message.to_template()]

    @property
    def images(self) -> list[Image]:
        return [image for message in self.messages for image in message.images]

    @property
    def shown_tools(self) -> list[dict[str, Any]] | None:
        if not self.tools or (self.tool_choice is not None and self.tool_choice.type == "none"):
            return None
        return [tool.to_template() for tool in self.tools]

    @property
    def continues(self) -> bool:
        """A last message of the assistant is one to go on with."""
        return self.messages[-1].role == "assistant"


class Messages(CountTokens):
    max_tokens: Tokens
    stream: bool | None = None
    stop_sequences: StopStrings | None = None
    temperature: Annotated[Temperature, Field(le=1)] | None = None
    top_p: TopP | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    metadata: Any = None
    service_tier: Any = None
