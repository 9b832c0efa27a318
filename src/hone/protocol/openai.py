"""The bodies of the OpenAI-compatible routes."""

import json
import re
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field, field_validator, model_validator

from hone.errors import UserError
from hone.protocol.chat import (
    MAX_SAMPLES,
    MAX_TOP_LOGPROBS,
    Content,
    StopStrings,
    Strict,
    Temperature,
    Tokens,
    TopP,
    check_keys,
    images_in,
    mixed,
    only,
    part_text,
    picture,
    to_template,
)
from hone.protocol.types import Image

_DATA_URL = re.compile(r"data:(image/[a-z]+);base64,")
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Ignored = Any
"""Says who asks, or how the hosted service should bill and cache; it changes no answer."""


def _listed(stop: object) -> object:
    return [stop] if isinstance(stop, str) else stop


class StreamOptions(Strict):
    include_usage: bool = False
    include_obfuscation: Annotated[Any, only(False)] = None


class Completing(Strict):
    """What both kinds of completion take."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MAX_SAMPLES)] | None = None
    max_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    """Not OpenAI's; 0 and -1 are off."""
    seed: int | None = None
    stop: Annotated[StopStrings, BeforeValidator(_listed)] | None = None
    frequency_penalty: Annotated[Any, only(0)] = None
    presence_penalty: Annotated[Any, only(0)] = None
    logit_bias: Annotated[Any, only({})] = None
    user: Ignored = None

    @model_validator(mode="after")
    def _consistent(self) -> "Completing":
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream")
        return self


class Completion(Completing):
    prompt: str | list[str] | list[TokenId] | list[list[TokenId]]
    logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    echo: bool | None = None
    best_of: Annotated[Any, only(1)] = None
    suffix: Annotated[Any, only("")] = None

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        if isinstance(self.prompt, str):
            return [self.prompt]
        if self.prompt and isinstance(self.prompt[0], int):
            return [self.prompt]
        return cast(list[str] | list[list[int]], self.prompt)

    @model_validator(mode="after")
    def _served(self) -> "Completion":
        if not self.prompts:
            raise ValueError("prompt is an empty list; give at least one prompt")
        if self.stream and (self.echo or len(self.prompts) > 1):
            raise ValueError("stream takes one prompt and no echo; send one request for each prompt")
        if self.max_tokens == 0 and not self.echo:
            raise ValueError("max_tokens 0 asks for nothing; it needs echo, which returns the prompt")
        return self


def _parts(content: object) -> object:
    if not isinstance(content, list):
        return content
    try:
        return mixed(_part(part) for part in content)
    except UserError as error:
        raise ValueError(str(error)) from None


def _part(part: object) -> str | Image:
    if not isinstance(part, dict) or part.get("type") != "image_url":
        return part_text(part)
    check_keys(part, ("type", "image_url"))
    asked = part.get("image_url")
    if not isinstance(asked, dict) or not isinstance(asked.get("url"), str):
        raise ValueError("an image_url part needs {'url': 'data:image/png;base64,...'}")
    check_keys(asked, ("url", "detail"))
    if asked.get("detail") not in (None, "auto"):
        raise ValueError(f"image_url.detail {asked['detail']!r} is not supported by this server; leave it out")
    found = _DATA_URL.match(asked["url"])
    if found is None:
        raise ValueError("image_url.url must be data:image/png;base64,... or jpeg; this server fetches nothing")
    return picture(asked["url"][found.end() :], found[1])


class CalledFunction(Strict):
    name: str
    arguments: str

    def to_template(self) -> dict[str, Any]:
        """Templates write arguments as JSON themselves, so they want the object."""
        try:
            arguments = json.loads(self.arguments or "{}")
        except ValueError:
            arguments = self.arguments
        return {"name": self.name, "arguments": arguments}


class ToolCall(Strict):
    id: str | None = None
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(Strict):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[Content, BeforeValidator(_parts)] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    """Not OpenAI's: what a reasoning model thought before it said this."""
    refusal: Annotated[Any, only()] = None
    audio: Annotated[Any, only()] = None
    function_call: Annotated[Any, only()] = None
    annotations: Annotated[Any, only([])] = None

    @model_validator(mode="after")
    def _who_shows(self) -> "Message":
        if images_in(self.content) and self.role != "user":
            raise ValueError(f"a message of the {self.role} holds an image; only the user's may")
        return self

    def to_template(self) -> dict[str, Any]:
        content = None if self.content is None else to_template(self.content)
        fields: dict[str, Any] = {"role": "system" if self.role == "developer" else self.role, "content": content}
        for name in ("name", "tool_call_id", "reasoning_content"):
            fields[name] = getattr(self, name)
        if self.tool_calls:
            fields["tool_calls"] = [
                {"id": call.id, "type": call.type, "function": call.function.to_template()} for call in self.tool_calls
            ]
        return {name: value for name, value in fields.items() if value is not None}


class Function(Strict):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: Annotated[Any, only(False)] = None


class ChatCompletion(Completing):
    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Tokens | None = None
    max_tokens: Tokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    tools: list[dict[str, Any]] | None = None
    """Passed to the template as they are, so unlike elsewhere order and nulls are kept."""
    tool_choice: Annotated[Any, only("auto", "none")] = None
    parallel_tool_calls: Annotated[Any, only(True)] = None
    response_format: Annotated[Any, only({"type": "text"})] = None
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Not OpenAI's: variables of the model's own template, such as `enable_thinking`."""
    modalities: Annotated[Any, only(["text"])] = None
    store: Annotated[Any, only(False)] = None
    metadata: Ignored = None
    service_tier: Ignored = None
    safety_identifier: Ignored = None
    prompt_cache_key: Ignored = None

    @field_validator("tools")
    @classmethod
    def _functions(cls, tools: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
        for tool in tools or []:
            check_keys(tool, ("type", "function"))
            if tool.get("type") != "function":
                raise ValueError(f"a tool has type {tool.get('type')!r}; this server knows 'function'")
            Function.model_validate(tool.get("function"))
        return tools

    @field_validator("chat_template_kwargs")
    @classmethod
    def _variables(cls, variables: dict[str, Any]) -> dict[str, Any]:
        for name in ("messages", "tools", "documents", "add_generation_prompt"):
            if name in variables:
                raise ValueError(f"{name!r} is set by the request itself")
        return variables

    @model_validator(mode="after")
    def _logprobs(self) -> "ChatCompletion":
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs")
        return self

    @property
    def images(self) -> list[Image]:
        return [image for message in self.messages for image in images_in(message.content)]

    @property
    def shown_tools(self) -> list[dict[str, Any]] | None:
        return None if self.tool_choice == "none" else self.tools or None
