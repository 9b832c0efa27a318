"""Chat messages and tool specifications: plain dicts in the shape of OpenAI's and tinker-cookbook's.

`read_messages` takes what people have in their files (reasoning in a field of its own, `image_url` parts, arguments
as an object, pydantic tool calls) and returns the one form that everything else here works with, or says what is wrong.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict, cast

from hone.errors import UserError

ROLES = ("system", "developer", "user", "assistant", "tool")
_REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
"""Where different services put what a model thought before it answered."""


class MessageError(UserError):
    """A message, or a tool, that does not have the right form."""


class TextPart(TypedDict):
    type: Literal["text"]
    text: str


class ThinkingPart(TypedDict):
    type: Literal["thinking"]
    thinking: str


class ImagePart(TypedDict):
    type: Literal["image"]
    image: Any
    """A PIL image, the bytes of a file, its path, or a `data:` URI."""


ContentPart = TextPart | ThinkingPart | ImagePart


class FunctionCall(TypedDict):
    name: str
    arguments: str
    """JSON, as the model wrote it."""


class ToolCall(TypedDict):
    type: Literal["function"]
    id: NotRequired[str]
    function: FunctionCall


class UnparsedToolCall(TypedDict):
    """What looked like a tool call in a sampled answer and was none."""

    raw_text: str
    error: str


class Message(TypedDict):
    role: str
    content: str | list[ContentPart]
    tool_calls: NotRequired[list[ToolCall]]
    unparsed_tool_calls: NotRequired[list[UnparsedToolCall]]
    tool_call_id: NotRequired[str]
    """Of a tool's answer: the `id` of the call."""
    name: NotRequired[str]
    """Of a tool's answer: the tool."""
    trainable: NotRequired[bool]
    """Whether `TrainOnWhat.CUSTOMIZED` trains this message."""


class ToolSpec(TypedDict):
    """OpenAI's form: `{"type": "function", "function": {"name", "description", "parameters"}}`."""

    type: Literal["function"]
    function: dict[str, Any]


def read_messages(values: object, where: str = "messages") -> list[Message]:
    """A conversation in the one form; at least one message. `where` begins the text of errors."""
    if isinstance(values, str | Mapping) or not isinstance(values, Sequence):
        raise MessageError(f"{where} is {_kind(values)}; it must be a list of messages")
    if not values:
        raise MessageError(f"{where} is empty; a conversation has at least one message")
    return [read_message(value, f"{where}[{index}]") for index, value in enumerate(values)]


def read_message(value: object, where: str = "message") -> Message:
    """One message in the one form. An unknown field is left out; a wrong one raises `MessageError`.

    So does OpenAI's `weight`, unless it is 1: left out, a message would be trained that was not to be.
    """
    if not isinstance(value, Mapping):
        raise MessageError(f"{where} is {_kind(value)}; it must be an object with role and content")
    for field in ("role", "content"):
        if field not in value and not (field == "content" and value.get("tool_calls")):
            raise MessageError(f"{where} has no {field!r}; it has {', '.join(map(repr, value)) or 'no fields at all'}")
    role = value["role"]
    if role not in ROLES:
        raise MessageError(f"{where} has the role {role!r}; a role is one of {', '.join(ROLES)}")
    message: Message = {"role": role, "content": _content(value, where)}
    if calls := value.get("tool_calls"):
        if role != "assistant":
            raise MessageError(f"{where} has tool_calls and the role {role!r}; only an assistant calls tools")
        message["tool_calls"] = [_tool_call(call, f"{where}.tool_calls[{i}]") for i, call in enumerate(_items(calls))]
    if unparsed := value.get("unparsed_tool_calls"):
        message["unparsed_tool_calls"] = [cast(UnparsedToolCall, dict(_fields(one))) for one in _items(unparsed)]
    for name in ("tool_call_id", "name"):
        text = value.get(name)
        if text is not None and not isinstance(text, str):
            raise MessageError(f"{where}.{name} is {_kind(text)}; it must be text")
        if text is not None:
            message[name] = text
    if value.get("weight", 1) not in (1, None):
        raise MessageError(
            f"{where} has the weight {value['weight']!r}; say instead of every message whether it is `trainable` "
            "(true or false), and train on customized"
        )
    trainable = value.get("trainable")
    if trainable is not None:
        if not isinstance(trainable, bool):
            raise MessageError(f"{where}.trainable is {trainable!r}; it must be true or false")
        message["trainable"] = trainable
    return message


def read_tools(values: object, where: str = "tools") -> list[ToolSpec]:
    """Tool specifications in OpenAI's form; a bare `{"name", "description", "parameters"}` is wrapped."""
    if values is None:
        return []
    if isinstance(values, str | Mapping) or not isinstance(values, Sequence):
        raise MessageError(f"{where} is {_kind(values)}; it must be a list of tools")
    return [_tool(value, f"{where}[{index}]") for index, value in enumerate(values)]


def text_of(message: Message) -> str:
    """What the message says, without its reasoning and its images."""
    if isinstance(message["content"], str):
        return message["content"]
    return "".join(part["text"] for part in message["content"] if part["type"] == "text")


def thinking_of(message: Message) -> str:
    """What was thought before the message was said; empty if nothing was."""
    if isinstance(message["content"], str):
        return ""
    return "".join(part["thinking"] for part in message["content"] if part["type"] == "thinking")


def parts_of(message: Message) -> list[ContentPart]:
    """The content as parts, whatever its form."""
    if isinstance(message["content"], str):
        return [{"type": "text", "text": message["content"]}]
    return message["content"]


def assistant_message(text: str, thinking: str = "", calls: Iterable[ToolCall] = ()) -> Message:
    """Content is plain text, or parts where there is reasoning."""
    content: str | list[ContentPart] = text
    if thinking:
        content = [{"type": "thinking", "thinking": thinking}, {"type": "text", "text": text}]
    message: Message = {"role": "assistant", "content": content}
    if listed := list(calls):
        message["tool_calls"] = listed
    return message


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """The call's arguments as an object; `MessageError` if they are none."""
    text = call["function"]["arguments"]
    try:
        value = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise MessageError(f"the arguments of {call['function']['name']} are not JSON: {error}") from error
    if not isinstance(value, dict):
        raise MessageError(f"the arguments of {call['function']['name']} are {_kind(value)}; they must be an object")
    return value


def is_system(message: Message) -> bool:
    """Whether it speaks for whoever runs the model; formats older than the role `developer` write it as `system`."""
    return message["role"] in ("system", "developer")


def called_name(messages: Sequence[Message], index: int) -> str | None:
    """The tool whose answer message `index` is: by its name, by the id of a call before it, or the last call at all."""
    message = messages[index]
    if "name" in message:
        return message["name"]
    calls = [call for earlier in messages[:index] for call in earlier.get("tool_calls", ())]
    named = [call for call in calls if "id" in call and call["id"] == message.get("tool_call_id")]
    return (named or calls)[-1]["function"]["name"] if calls else None


def _content(value: Mapping[Any, Any], where: str) -> str | list[ContentPart]:
    content = value.get("content")
    if content is None and value.get("tool_calls"):
        content = ""
    if isinstance(content, str):
        parts: list[ContentPart] = [{"type": "text", "text": content}]
    elif isinstance(content, Sequence):
        parts = [_part(part, f"{where}.content[{index}]") for index, part in enumerate(content)]
    else:
        raise MessageError(f"{where}.content is {_kind(content)}; it must be text or a list of parts")
    for name in _REASONING_FIELDS:
        reasoning = value.get(name)
        if isinstance(reasoning, str) and reasoning and not any(part["type"] == "thinking" for part in parts):
            parts.insert(0, {"type": "thinking", "thinking": reasoning})
    if any(part["type"] == "thinking" for part in parts) and value["role"] != "assistant":
        raise MessageError(f"{where} has reasoning and the role {value['role']!r}; only an assistant thinks")
    if isinstance(content, str) and len(parts) == 1:
        return content
    return parts


def _part(value: object, where: str) -> ContentPart:
    if isinstance(value, str):
        return {"type": "text", "text": value}
    if not isinstance(value, Mapping):
        raise MessageError(f"{where} is {_kind(value)}; it must be text or an object with a type")
    kind = value.get("type")
    if kind == "image_url":
        image = value.get("image_url")
        return {"type": "image", "image": image.get("url") if isinstance(image, Mapping) else image}
    known = {"text": "text", "thinking": "thinking", "image": "image"}
    if kind not in known:
        raise MessageError(f"{where} has the type {kind!r}; a part is one of text, thinking, image, image_url")
    if kind not in value:
        raise MessageError(f"{where} has the type {kind!r} and no {kind!r}")
    if kind != "image" and not isinstance(value[kind], str):
        raise MessageError(f"{where}.{kind} is {_kind(value[kind])}; it must be text")
    return cast(ContentPart, {"type": kind, kind: value[kind]})


def _tool_call(value: object, where: str) -> ToolCall:
    fields = _fields(value)
    function = _fields(fields.get("function", fields))
    name, arguments = function.get("name"), function.get("arguments")
    if not isinstance(name, str) or not name:
        raise MessageError(f"{where} names no function; it must be {{'function': {{'name', 'arguments'}}}}")
    if isinstance(arguments, Mapping) or arguments is None:
        arguments = json.dumps(arguments or {}, ensure_ascii=False)
    if not isinstance(arguments, str):
        raise MessageError(f"{where}: the arguments of {name} are {_kind(arguments)}; they must be an object or JSON")
    call: ToolCall = {"type": "function", "function": {"name": name, "arguments": arguments}}
    if isinstance(fields.get("id"), str):
        call["id"] = fields["id"]
    return call


def _tool(value: object, where: str) -> ToolSpec:
    if not isinstance(value, Mapping):
        raise MessageError(f"{where} is {_kind(value)}; it must be an object")
    wrapped = dict(value) if "function" in value else {"type": "function", "function": dict(value)}
    function = wrapped["function"]
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise MessageError(f"{where} has no name; a tool is {{'name', 'description', 'parameters'}}")
    return cast(ToolSpec, wrapped)


def _fields(value: object) -> Mapping[str, Any]:
    """A mapping, or a pydantic object as one."""
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        value = dump()
    return value if isinstance(value, Mapping) else {}


def _items(value: object) -> Sequence[object]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def _kind(value: object) -> str:
    return "null" if value is None else f"of type {type(value).__name__}"
