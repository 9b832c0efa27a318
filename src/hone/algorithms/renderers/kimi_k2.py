"""Kimi K2 Thinking: reasoning in <think> right before the text; tool calls carry ids."""

import json
import re
from collections.abc import Sequence
from typing import ClassVar

from hone.algorithms.messages import Message, ToolCall, ToolSpec, UnparsedToolCall, called_name, is_system
from hone.algorithms.renderers.encoding import Content, Markup, Piece
from hone.algorithms.renderers.family import Block, Family
from hone.algorithms.renderers.thinking import reasoning_and_text, split_thinking
from hone.algorithms.renderers.tool_calls import CallError, call, check_object, message_of

SYSTEM = "You are Kimi, an AI assistant created by Moonshot AI."
CALLS_OPEN, CALLS_CLOSE = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"
CALL_OPEN, CALL_ARGUMENT, CALL_CLOSE = "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"


class KimiK2(Family):
    """Reasoning is kept in the history after the last answer that called no tool; before, its block is empty."""

    markers = ("<think>", "</think>", CALLS_OPEN, CALLS_CLOSE, CALL_OPEN, CALL_ARGUMENT, CALL_CLOSE)
    stops: ClassVar[tuple[str, ...]] = ("<|im_end|>",)

    @property
    def has_extension_property(self) -> bool:
        return False

    def history(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[Block]:
        answers = [i for i, one in enumerate(messages) if one["role"] == "assistant" and not one.get("tool_calls")]
        last_answer = answers[-1] if answers else -1
        blocks = []
        if tools:
            # Kimi's own tokenizer sorts the keys and leaves out the spaces.
            text = json.dumps(list(tools), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
            blocks.append(Block(None, [Markup("<|im_system|>tool_declare<|im_middle|>")], [Content(text), *_END]))
        if not messages or not is_system(messages[0]):
            blocks.append(Block(None, [Markup(f"<|im_system|>system<|im_middle|>{SYSTEM}<|im_end|>")]))
        for index, message in enumerate(messages):
            if message["role"] == "assistant":
                output = self._output(message, with_reasoning=index > last_answer)
            elif message["role"] == "tool":
                head: list[Piece] = [Markup("## Return of "), Content(message.get("tool_call_id", "")), Markup("\n")]
                output = [*head, *self.written(message), *_END]
            else:
                output = [*self.written(message), *_END]
            blocks.append(Block(index, _header(messages, index), output))
        return blocks

    def opening(self, messages: Sequence[Message]) -> list[Piece]:
        return [Markup("<|im_assistant|>assistant<|im_middle|>")]

    def produced(self, message: Message, before: Sequence[Message]) -> list[Piece]:
        return self._output(message, with_reasoning=True)

    def read(self, text: str, tools: Sequence[ToolSpec]) -> Message:
        reasoning, rest = split_thinking(text)
        said, opened, section = rest.partition(CALLS_OPEN)
        calls: list[ToolCall] = []
        unparsed: list[UnparsedToolCall] = []
        body, closed, after = section.partition(CALLS_CLOSE)
        if opened and not closed:
            unparsed.append({"raw_text": opened + section, "error": f"it does not end with {CALLS_CLOSE}"})
        for part in body.split(CALL_OPEN)[1:] if closed else ():
            try:
                calls.append(_read_call(part))
            except CallError as error:
                unparsed.append({"raw_text": CALL_OPEN + part, "error": str(error)})
        if after.strip():
            unparsed.append({"raw_text": after, "error": "it stands after the tool calls"})
        return message_of(said, reasoning, calls, unparsed)

    def _output(self, message: Message, *, with_reasoning: bool) -> list[Piece]:
        reasoning, text = reasoning_and_text(message)
        pieces: list[Piece] = [Markup("<think>"), Content(reasoning if with_reasoning else ""), Markup("</think>")]
        pieces.append(Content(text))
        if calls := message.get("tool_calls"):
            pieces.append(Markup(CALLS_OPEN))
            for number, one in enumerate(calls):
                id = one.get("id") or f"functions.{one['function']['name']}:{number}"
                pieces += [Markup(CALL_OPEN), Content(id), Markup(CALL_ARGUMENT)]
                pieces += [Content(one["function"]["arguments"]), Markup(CALL_CLOSE)]
            pieces.append(Markup(CALLS_CLOSE))
        pieces += [Content(unparsed["raw_text"]) for unparsed in message.get("unparsed_tool_calls", ())]
        return [*pieces, *_END]


_END = (Markup("<|im_end|>"),)


def _header(messages: Sequence[Message], index: int) -> list[Piece]:
    message = messages[index]
    kind = {"user": "<|im_user|>", "assistant": "<|im_assistant|>"}.get(message["role"], "<|im_system|>")
    name = called_name(messages, index) if message["role"] == "tool" else message.get("name")
    return [
        Markup(kind),
        Content(name or ("system" if is_system(message) else message["role"])),
        Markup("<|im_middle|>"),
    ]


def _read_call(text: str) -> ToolCall:
    inside, closed, after = text.partition(CALL_CLOSE)
    id, separator, arguments = inside.partition(CALL_ARGUMENT)
    if not closed or not separator or after.strip():
        raise CallError(f"it is not {CALL_OPEN}ID{CALL_ARGUMENT}JSON{CALL_CLOSE}")
    name = re.fullmatch(r"(?:functions\.)?(.+?)(?::\d+)?", id.strip())
    if name is None:
        raise CallError("its id is empty")
    return call(name[1], check_object(arguments), id.strip())
