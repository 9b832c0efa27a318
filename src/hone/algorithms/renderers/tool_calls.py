"""Tool calls as text and back. What a model sampled and cannot be read is kept, with the reason.

Two notations inside <tool_call> ... </tool_call>: JSON (Qwen 3 and many others) and tags (Qwen 3.5).
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hone.algorithms.messages import Message, ToolCall, ToolSpec, UnparsedToolCall, arguments_of, assistant_message
from hone.algorithms.renderers.encoding import Content, Markup, Piece

OPEN, CLOSE = "<tool_call>", "</tool_call>"


class CallError(ValueError):
    """Why something that looks like a tool call is none."""


ReadCall = Callable[[str, Sequence[ToolSpec]], ToolCall]


def call(name: str, arguments: str, id: str | None = None) -> ToolCall:
    made: ToolCall = {"type": "function", "function": {"name": name, "arguments": arguments}}
    if id:
        made["id"] = id
    return made


def to_json(value: Any) -> str:
    """As chat templates write it."""
    return json.dumps(value, ensure_ascii=False)


def check_object(arguments: str) -> str:
    """The text itself, if it is a JSON object."""
    try:
        value = json.loads(arguments)
    except ValueError as error:
        raise CallError(f"its arguments are not JSON: {error}") from error
    if not isinstance(value, dict):
        raise CallError(f"its arguments are a JSON {type(value).__name__}, not an object")
    return arguments


def split_calls(
    text: str, read: ReadCall, tools: Sequence[ToolSpec]
) -> tuple[str, list[ToolCall], list[UnparsedToolCall]]:
    """The text before the first <tool_call>, the calls, and what could not be read."""
    before, opened, rest = text.partition(OPEN)
    calls: list[ToolCall] = []
    unparsed: list[UnparsedToolCall] = []
    while opened:
        body, closed, after = rest.partition(CLOSE)
        raw = f"{OPEN}{body}{closed}"
        try:
            if not closed:
                raise CallError(f"it does not end with {CLOSE}")
            calls.append(read(body, tools))
        except CallError as error:
            unparsed.append({"raw_text": raw, "error": str(error)})
        said, opened, rest = after.partition(OPEN)
        if said.strip():
            unparsed.append({"raw_text": said, "error": "it stands between or after tool calls"})
    return before, calls, unparsed


def message_of(text: str, thinking: str, calls: list[ToolCall], unparsed: list[UnparsedToolCall]) -> Message:
    message = assistant_message(text, thinking, calls)
    if unparsed:
        message["unparsed_tool_calls"] = unparsed
    return message


def unparsed_pieces(message: Message) -> Iterator[Piece]:
    """What could not be read, as it was sampled, so that a history with it extends the prompt before."""
    for unparsed in message.get("unparsed_tool_calls", ()):
        for part in re.split(f"({OPEN}|{CLOSE})", unparsed["raw_text"]):
            if part:
                yield Markup(part) if part in (OPEN, CLOSE) else Content(part)


def answered(content: Sequence[Piece]) -> list[Piece]:
    """What a tool answers, in its tags."""
    return [Markup("<tool_response>\n"), *content, Markup("\n</tool_response>")]


def json_call_pieces(one: ToolCall) -> list[Piece]:
    function = one["function"]
    return [
        Markup(f'{OPEN}\n{{"name": "'),
        Content(function["name"]),
        Markup('", "arguments": '),
        Content(function["arguments"]),
        Markup(f"}}\n{CLOSE}"),
    ]


def read_json_call(body: str, tools: Sequence[ToolSpec]) -> ToolCall:
    try:
        value = json.loads(body)
    except ValueError as error:
        raise CallError(f"it is not JSON: {error}") from error
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise CallError('it is not an object with "name" and "arguments"')
    arguments = value.get("arguments", {})
    if isinstance(arguments, str):
        return call(value["name"], check_object(arguments))
    if not isinstance(arguments, dict):
        raise CallError(f"its arguments are a JSON {type(arguments).__name__}, not an object")
    return call(value["name"], _as_written(body, arguments))


def tagged_call_pieces(one: ToolCall) -> list[Piece]:
    pieces: list[Piece] = [Markup(f"{OPEN}\n<function="), Content(one["function"]["name"]), Markup(">\n")]
    for name, value in arguments_of(one).items():
        pieces += [Markup("<parameter="), Content(name), Markup(">\n"), Content(_tagged_value(value))]
        pieces.append(Markup("\n</parameter>\n"))
    return [*pieces, Markup(f"</function>\n{CLOSE}")]


def read_tagged_call(body: str, tools: Sequence[ToolSpec]) -> ToolCall:
    function = re.fullmatch(r"\s*<function=([^>\n]+)>\n?(.*?)\n?</function>\s*", body, re.DOTALL)
    if function is None:
        raise CallError("it is not <function=NAME> ... </function>")
    name, inside = function[1], function[2]
    pattern = re.compile(r"\s*<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>\s*", re.DOTALL)
    kinds = text_parameters(name, tools)
    arguments: dict[str, Any] = {}
    at = 0
    while at < len(inside):
        parameter = pattern.match(inside, at)
        if parameter is None:
            raise CallError(f"what follows {len(arguments)} parameters is not <parameter=NAME> ... </parameter>")
        arguments[parameter[1]] = parameter[2] if parameter[1] in kinds else untagged_value(parameter[2])
        at = parameter.end()
    return call(name, to_json(arguments))


def _as_written(body: str, arguments: dict[str, Any]) -> str:
    """The arguments with the model's own spacing, where that can be told; else as JSON is written here."""
    found = re.search(r'"arguments"\s*:\s*(\{.*\})\s*\}\s*$', body, re.DOTALL)
    if found is not None:
        try:
            if json.loads(found[1]) == arguments:
                return found[1]
        except ValueError:
            pass
    return to_json(arguments)


def _tagged_value(value: Any) -> str:
    """Text as it is, objects and lists as JSON, the rest as Python writes it: so Qwen 3.5's template does."""
    return to_json(value) if isinstance(value, dict | list) else str(value)


def untagged_value(text: str) -> Any:
    words = {"True": True, "False": False, "None": None}
    if text in words:
        return words[text]
    try:
        return json.loads(text)
    except ValueError:
        return text


def text_parameters(name: str, tools: Sequence[ToolSpec]) -> set[str]:
    """The parameters that the tool's schema says are text."""
    for tool in tools:
        if tool["function"]["name"] == name:
            properties = (tool["function"].get("parameters") or {}).get("properties") or {}
            return {key for key, schema in properties.items() if schema.get("type") == "string"}
    return set()
