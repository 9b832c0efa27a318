"""GLM 4.5 and 4.6: no token ends an answer; the header of whoever speaks next does."""

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from hone.algorithms.messages import Message, ToolCall, ToolSpec, arguments_of, text_of
from hone.algorithms.renderers.encoding import Content, Markup, Piece
from hone.algorithms.renderers.family import Block, Family
from hone.algorithms.renderers.thinking import reasoning_and_text, split_thinking
from hone.algorithms.renderers.tool_calls import (
    CLOSE,
    OPEN,
    CallError,
    answered,
    call,
    message_of,
    split_calls,
    text_parameters,
    to_json,
    unparsed_pieces,
    untagged_value,
)

TOOLS_BEFORE = """
# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
"""
TOOLS_AFTER = """</tools>

For each function call, output the function name and arguments within the following XML format:
<tool_call>{function-name}
<arg_key>{arg-key-1}</arg_key>
<arg_value>{arg-value-1}</arg_value>
<arg_key>{arg-key-2}</arg_key>
<arg_value>{arg-value-2}</arg_value>
...
</tool_call>"""


class Glm(Family):
    """With reasoning: kept in the history since the last user message, an empty block before."""

    markers = (
        *("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"),
        *("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "/nothink"),
    )
    stops: ClassVar[tuple[str, ...]] = ("<|user|>", "<|observation|>")
    begin = "[gMASK]<sop>"
    trains_overlap = True

    @property
    def has_extension_property(self) -> bool:
        return False

    def history(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[Block]:
        last_user = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=-1)
        blocks = []
        if tools:
            listed = "".join(f"{to_json(tool)}\n" for tool in tools)
            pieces: list[Piece] = [Markup(TOOLS_BEFORE), Content(listed), Markup(TOOLS_AFTER)]
            blocks.append(Block(None, [Markup("<|system|>")], pieces))
        header: list[Piece]
        for index, message in enumerate(messages):
            role = message["role"]
            if role == "assistant":
                header = [Markup("<|assistant|>")]
                blocks.append(Block(index, header, self._output(message, with_reasoning=index > last_user)))
            elif role == "tool":
                first = index == 0 or messages[index - 1]["role"] != "tool"
                header = [Markup("<|observation|>\n" if first else "\n")]
                blocks.append(Block(index, header, answered(self.written(message))))
            elif role == "user":
                blocks.append(Block(index, [Markup("<|user|>\n")], self.asked(message)))
            else:
                blocks.append(Block(index, [Markup("<|system|>\n")], self.written(message)))
        return blocks

    def asked(self, message: Message) -> list[Piece]:
        return self.written(message)

    def opening(self, messages: Sequence[Message]) -> list[Piece]:
        return [Markup("<|assistant|>")]

    def produced(self, message: Message, before: Sequence[Message]) -> list[Piece]:
        return self._output(message, with_reasoning=True)

    def overlap(self, message: Message) -> str:
        return "<|observation|>" if message.get("tool_calls") else "<|user|>"

    def read(self, text: str, tools: Sequence[ToolSpec]) -> Message:
        reasoning, rest = split_thinking(text)
        said, calls, unparsed = split_calls(rest, _read_call, tools)
        return message_of(said.strip(), reasoning.strip(), calls, unparsed)

    def said(self, message: Message) -> list[Piece]:
        """Text and calls."""
        text = reasoning_and_text(message)[1].strip()
        pieces: list[Piece] = [Markup("\n"), Content(text)] if text else []
        for one in message.get("tool_calls", ()):
            pieces += [Markup(f"\n{OPEN}"), Content(one["function"]["name"]), Markup("\n")]
            for key, value in arguments_of(one).items():
                pieces += [Markup("<arg_key>"), Content(key), Markup("</arg_key>\n<arg_value>")]
                pieces += [Content(value if isinstance(value, str) else to_json(value)), Markup("</arg_value>\n")]
            pieces.append(Markup(CLOSE))
        return [*pieces, *unparsed_pieces(message)]

    def _output(self, message: Message, *, with_reasoning: bool) -> list[Piece]:
        reasoning = reasoning_and_text(message)[0].strip() if with_reasoning else ""
        return [Markup("\n<think>"), Content(reasoning), Markup("</think>"), *self.said(message)]


class GlmDisableThinking(Glm):
    """Every user message says /nothink, and the prompt ends with an empty block of reasoning."""

    disables_thinking = True

    def asked(self, message: Message) -> list[Piece]:
        pieces = self.written(message)
        return pieces if text_of(message).endswith("/nothink") else [*pieces, Markup("/nothink")]

    def opening(self, messages: Sequence[Message]) -> list[Piece]:
        return [Markup("<|assistant|>\n<think></think>")]

    def produced(self, message: Message, before: Sequence[Message]) -> list[Piece]:
        return self.said(message)


def _read_call(body: str, tools: Sequence[ToolSpec]) -> ToolCall:
    name, _, inside = body.partition("\n")
    pattern = re.compile(r"\s*<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>\s*", re.DOTALL)
    arguments: dict[str, Any] = {}
    at = 0
    while at < len(inside.rstrip()):
        argument = pattern.match(inside, at)
        if argument is None:
            raise CallError(f"what follows {len(arguments)} arguments is not an <arg_key> with its <arg_value>")
        arguments[argument[1]] = _value(argument[2], name.strip(), argument[1], tools)
        at = argument.end()
    if not name.strip():
        raise CallError("it names no function")
    return call(name.strip(), to_json(arguments))


def _value(text: str, function: str, name: str, tools: Sequence[ToolSpec]) -> Any:
    return text if name in text_parameters(function, tools) else untagged_value(text)
