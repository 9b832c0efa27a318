"""DeepSeek V3.1: two modes in one format; reasoning is never in the history."""

from collections.abc import Sequence
from typing import ClassVar

from hone.algorithms.messages import Message, ToolCall, ToolSpec, UnparsedToolCall, is_system, text_of, thinking_of
from hone.algorithms.renderers.encoding import Content, Markup, Piece
from hone.algorithms.renderers.family import Block, Family
from hone.algorithms.renderers.thinking import OPEN, split_thinking
from hone.algorithms.renderers.tool_calls import CallError, call, check_object, message_of, to_json

ASSISTANT = "<｜Assistant｜>"
END = Markup("<｜end▁of▁sentence｜>")
CALLS_OPEN, CALLS_CLOSE = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL_OPEN, CALL_SEPARATOR, CALL_CLOSE = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"
TOOLS_BEFORE = "## Tools\nYou have access to the following tools:\n"
TOOLS_AFTER = (
    "\nIMPORTANT: ALWAYS adhere to this exact format for tool use:\n"
    f"{CALLS_OPEN}{CALL_OPEN}tool_call_name{CALL_SEPARATOR}tool_call_arguments{CALL_CLOSE}{CALLS_CLOSE}\n\n"
    "Where:\n- `tool_call_name` must be an exact match to one of the available tools\n"
    "- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema\n"
    "- For multiple tool calls, chain them directly without separators or spaces"
)
"""How the model's card says to write tools into the system text; the template itself writes none."""


class DeepSeekV3(Family):
    """Without reasoning: every answer to a user begins with a closed </think>."""

    markers = (
        *("<think>", "</think>", "<｜User｜>", ASSISTANT, CALLS_OPEN, CALLS_CLOSE, CALL_OPEN, CALL_CLOSE),
        *(CALL_SEPARATOR, "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"),
    )
    stops: ClassVar[tuple[str, ...]] = ("<｜end▁of▁sentence｜>",)
    begin = "<｜begin▁of▁sentence｜>"
    disables_thinking = True

    @property
    def has_extension_property(self) -> bool:
        return True

    def history(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[Block]:
        blocks: list[Block] = []
        for index, message in enumerate(messages):
            if is_system(message):
                between = [Markup("\n\n")] if blocks else []
                blocks.append(Block(index, between, self.written(message)))
        if tools:
            blocks.append(Block(None, [Markup("\n\n")] if blocks else [], _tools(tools)))
        for index, message in enumerate(messages):
            if message["role"] == "user":
                blocks.append(Block(index, [Markup("<｜User｜>")], self.written(message)))
            elif message["role"] == "assistant":
                header = [Markup(f"{ASSISTANT}</think>")] if _asked(messages[:index]) else []
                blocks.append(Block(index, header, self._said(message)))
            elif message["role"] == "tool":
                output = [*self.written(message), Markup("<｜tool▁output▁end｜>")]
                blocks.append(Block(index, [Markup("<｜tool▁output▁begin｜>")], output))
        return blocks

    def opening(self, messages: Sequence[Message]) -> list[Piece]:
        """After a tool's answer the model goes on without a header."""
        return [Markup(f"{ASSISTANT}</think>")] if _asked(messages) else []

    def produced(self, message: Message, before: Sequence[Message]) -> list[Piece]:
        return self._said(message)

    def read(self, text: str, tools: Sequence[ToolSpec]) -> Message:
        reasoning, rest = split_thinking(text)
        return _read_said(rest, reasoning)

    def _said(self, message: Message) -> list[Piece]:
        pieces: list[Piece] = [Content(_answer(message))]
        if calls := message.get("tool_calls"):
            pieces.append(Markup(CALLS_OPEN))
            for one in calls:
                pieces += [Markup(CALL_OPEN), Content(one["function"]["name"]), Markup(CALL_SEPARATOR)]
                pieces += [Content(one["function"]["arguments"]), Markup(CALL_CLOSE)]
            pieces.append(Markup(CALLS_CLOSE))
        pieces += [Content(unparsed["raw_text"]) for unparsed in message.get("unparsed_tool_calls", ())]
        return [*pieces, END]


class DeepSeekV3Thinking(DeepSeekV3):
    """The prompt opens the reasoning; in the history every answer is written as if there had been none."""

    disables_thinking = False

    @property
    def has_extension_property(self) -> bool:
        return False

    def opening(self, messages: Sequence[Message]) -> list[Piece]:
        return [Markup(f"{ASSISTANT}<think>")] if _asked(messages) else []

    def produced(self, message: Message, before: Sequence[Message]) -> list[Piece]:
        reasoning = thinking_of(message) or _split(message)[0]
        if _asked(before):
            return [Content(reasoning), Markup("</think>"), *self._said(message)]
        if reasoning:
            return [Markup("<think>"), Content(reasoning), Markup("</think>"), *self._said(message)]
        return self._said(message)

    def read(self, text: str, tools: Sequence[ToolSpec]) -> Message:
        # The prompt has opened the block, unless a tool answered last: then there may be none.
        opened = text if text.startswith(OPEN) or "</think>" not in text else f"{OPEN}{text}"
        reasoning, rest = split_thinking(opened)
        return _read_said(rest, reasoning)


def _asked(messages: Sequence[Message]) -> bool:
    """Whether a user spoke last; system texts do not count, they all stand at the beginning."""
    roles = [message["role"] for message in messages if not is_system(message)]
    return bool(roles) and roles[-1] == "user"


def _split(message: Message) -> tuple[str, str]:
    before, closed, rest = text_of(message).partition("</think>")
    return (before.removeprefix("<think>"), rest) if closed else ("", before)


def _answer(message: Message) -> str:
    """What follows the reasoning; its line breaks are its own here."""
    return text_of(message) if thinking_of(message) else _split(message)[1]


def _tools(tools: Sequence[ToolSpec]) -> list[Piece]:
    pieces: list[Piece] = [Markup(TOOLS_BEFORE)]
    for tool in tools:
        function = tool["function"]
        text = f"\n### {function['name']}\nDescription: {function.get('description', '')}\n\n"
        pieces.append(Content(f"{text}Parameters: {to_json(function.get('parameters', {}))}\n"))
    return [*pieces, Markup(TOOLS_AFTER)]


def _read_said(text: str, reasoning: str) -> Message:
    said, opened, rest = text.partition(CALLS_OPEN)
    calls: list[ToolCall] = []
    unparsed: list[UnparsedToolCall] = []
    body, closed, after = rest.partition(CALLS_CLOSE)
    if opened and not closed:
        unparsed.append({"raw_text": opened + rest, "error": f"it does not end with {CALLS_CLOSE}"})
        body = ""
    for part in body.split(CALL_OPEN)[1:] if closed else ():
        try:
            calls.append(_read_call(part))
        except CallError as error:
            unparsed.append({"raw_text": CALL_OPEN + part, "error": str(error)})
    if after.strip():
        unparsed.append({"raw_text": after, "error": "it stands after the tool calls"})
    return message_of(said, reasoning, calls, unparsed)


def _read_call(text: str) -> ToolCall:
    inside, closed, after = text.partition(CALL_CLOSE)
    name, separator, arguments = inside.partition(CALL_SEPARATOR)
    if not closed or not separator or after.strip():
        raise CallError(f"it is not {CALL_OPEN}NAME{CALL_SEPARATOR}JSON{CALL_CLOSE}")
    return call(name, check_object(arguments))
