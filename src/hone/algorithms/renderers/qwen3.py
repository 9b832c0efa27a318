"""Qwen 3, also instruct 2507: ChatML, reasoning in <think>, tool calls as JSON."""

from collections.abc import Sequence
from itertools import groupby
from typing import ClassVar

from hone.algorithms.messages import Message, ToolSpec, is_system, text_of, thinking_of
from hone.algorithms.renderers.encoding import Content, Markup, Piece
from hone.algorithms.renderers.family import Block, Family
from hone.algorithms.renderers.thinking import reasoning_and_text, split_thinking
from hone.algorithms.renderers.tool_calls import (
    answered,
    json_call_pieces,
    message_of,
    read_json_call,
    split_calls,
    to_json,
    unparsed_pieces,
)

ASSISTANT = Markup("<|im_start|>assistant\n")
END = Markup("<|im_end|>")
NEWLINE = (Markup("\n"),)
TOOLS_BEFORE = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
TOOLS_AFTER = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)
MARKERS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")


class Qwen3Instruct(Family):
    """The format without reasoning; where a message has some, it stands before the text and is kept."""

    markers = MARKERS
    stops: ClassVar[tuple[str, ...]] = ("<|im_end|>",)

    @property
    def has_extension_property(self) -> bool:
        return True

    def history(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[Block]:
        last_query = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=len(messages))
        blocks = []
        if tools:
            blocks.append(Block(None, [Markup("<|im_start|>system\n")], self._tools(messages, tools), NEWLINE))
        for is_tool, group in groupby(enumerate(messages), lambda item: item[1]["role"] == "tool"):
            if is_tool:
                blocks += self._tool_blocks(list(group))
                continue
            for index, message in group:
                if tools and index == 0 and is_system(message):
                    continue  # it is in the block of the tools
                if message["role"] == "assistant":
                    blocks.append(self.past(index, message, since_query=index > last_query))
                else:
                    blocks.append(self._block(index, message))
        return blocks

    def past(self, index: int, message: Message, *, since_query: bool) -> Block:
        """An assistant's message in the history; `since_query`: no user has spoken since."""
        return Block(index, [ASSISTANT], self.produced(message, ()), NEWLINE)

    def opening(self, messages: Sequence[Message]) -> list[Piece]:
        return [ASSISTANT]

    def produced(self, message: Message, before: Sequence[Message]) -> list[Piece]:
        reasoning, text = thinking_of(message), text_of(message)
        pieces: list[Piece] = []
        if reasoning:
            pieces = [Markup("<think>"), Content(reasoning), Markup("</think>")]
        return [*pieces, *self.said(message, text)]

    def said(self, message: Message, text: str) -> list[Piece]:
        """Text, calls and end."""
        pieces: list[Piece] = [Content(text)]
        for number, one in enumerate(message.get("tool_calls", ())):
            if text or number:
                pieces.append(Markup("\n"))
            pieces += json_call_pieces(one)
        return [*pieces, *unparsed_pieces(message), END]

    def read(self, text: str, tools: Sequence[ToolSpec]) -> Message:
        reasoning, rest = split_thinking(text)
        said, calls, unparsed = split_calls(rest, read_json_call, tools)
        if calls:
            said = said.removesuffix("\n")
        return message_of(said, reasoning, calls, unparsed)

    def _block(self, index: int, message: Message) -> Block:
        header = Markup(f"<|im_start|>{'system' if is_system(message) else message['role']}\n")
        return Block(index, [header], [*self.written(message), END], NEWLINE)

    def _tools(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[Piece]:
        pieces: list[Piece] = []
        if messages and is_system(messages[0]):
            pieces += [*self.written(messages[0]), Markup("\n\n")]
        pieces.append(Markup(TOOLS_BEFORE))
        for tool in tools:
            pieces += [Markup("\n"), Content(to_json(tool))]
        return [*pieces, Markup(TOOLS_AFTER), END]

    def _tool_blocks(self, group: Sequence[tuple[int, Message]]) -> list[Block]:
        """Answers of tools that follow each other are one user's message."""
        blocks = []
        for place, (index, message) in enumerate(group):
            last = place == len(group) - 1
            header = [Markup("\n" if place else "<|im_start|>user\n")]
            answer = answered(self.written(message))
            blocks.append(Block(index, header, [*answer, END] if last else answer, NEWLINE if last else ()))
        return blocks


class Qwen3(Qwen3Instruct):
    """Reasoning stands in its block in every answer, an empty one if there is none. In the history it is kept only
    since the last user message, where it belongs to calls of tools under way."""

    @property
    def has_extension_property(self) -> bool:
        return False

    def past(self, index: int, message: Message, *, since_query: bool) -> Block:
        reasoning, text = reasoning_and_text(message)
        output = self.reasoned(message, reasoning, text) if since_query and reasoning else self.said(message, text)
        return Block(index, [ASSISTANT], output, NEWLINE)

    def produced(self, message: Message, before: Sequence[Message]) -> list[Piece]:
        return self.reasoned(message, *reasoning_and_text(message))

    def reasoned(self, message: Message, reasoning: str, text: str) -> list[Piece]:
        text = text.lstrip("\n")
        block: list[Piece] = [Markup("<think>\n"), Content(reasoning.strip("\n")), Markup("\n</think>\n\n")]
        return [*block, *self.said(message, text)]


class Qwen3PreserveThinking(Qwen3):
    """All reasoning stays in the history, as it was sampled."""

    @property
    def has_extension_property(self) -> bool:
        return True

    def past(self, index: int, message: Message, *, since_query: bool) -> Block:
        return Block(index, [ASSISTANT], self.produced(message, ()), NEWLINE)


class Qwen3DisableThinking(Qwen3):
    """The prompt ends with an empty block of reasoning."""

    disables_thinking = True

    def opening(self, messages: Sequence[Message]) -> list[Piece]:
        return [ASSISTANT, Markup("<think>\n\n</think>\n\n")]

    def produced(self, message: Message, before: Sequence[Message]) -> list[Piece]:
        return self.said(message, reasoning_and_text(message)[1].lstrip("\n"))
