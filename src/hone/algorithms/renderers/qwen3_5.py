"""Qwen 3.5 and 3.6: ChatML, reasoning opened by the prompt, tool calls as tags, images."""

from collections.abc import Sequence

from hone.algorithms.messages import Message, ToolSpec, is_system
from hone.algorithms.renderers.encoding import Content, Image, Markup, Piece
from hone.algorithms.renderers.family import Block
from hone.algorithms.renderers.qwen3 import ASSISTANT, END, NEWLINE, Qwen3Instruct
from hone.algorithms.renderers.qwen3_vl import framed
from hone.algorithms.renderers.thinking import OPEN, reasoning_and_text, split_thinking
from hone.algorithms.renderers.tool_calls import (
    message_of,
    read_tagged_call,
    split_calls,
    tagged_call_pieces,
    to_json,
    unparsed_pieces,
)

TOOLS_BEFORE = "# Tools\n\nYou have access to the following functions:\n\n<tools>"
TOOLS_AFTER = """
</tools>

If you choose to call a function ONLY reply in the following format with NO suffix:

<tool_call>
<function=example_function_name>
<parameter=example_parameter_1>
value_1
</parameter>
<parameter=example_parameter_2>
This is the value for the second parameter
that can span
multiple lines
</parameter>
</function>
</tool_call>

<IMPORTANT>
Reminder:
- Function calls MUST follow the specified format: an inner <function=...></function> block must be nested within \
<tool_call></tool_call> XML tags
- Required parameters MUST be specified
- You may provide optional reasoning for your function call in natural language BEFORE the function call, but NOT after
- If there is no function call available, answer the question like normal with your current knowledge and do not tell \
the user about function calls
</IMPORTANT>"""


class Qwen3_5(Qwen3Instruct):
    """The prompt opens the block of reasoning, so its tag is not trained. In the history the block is kept since the
    last user message. Every text is trimmed, as the template does."""

    takes_images = True

    @property
    def has_extension_property(self) -> bool:
        return False

    def opening(self, messages: Sequence[Message]) -> list[Piece]:
        return [ASSISTANT, Markup("<think>\n")]

    def past(self, index: int, message: Message, *, since_query: bool) -> Block:
        if since_query:
            return Block(index, [ASSISTANT, Markup("<think>\n")], self._reasoned(message), NEWLINE)
        return Block(index, [ASSISTANT], self._said_after(message), NEWLINE)

    def produced(self, message: Message, before: Sequence[Message]) -> list[Piece]:
        return self._reasoned(message)

    def trimmed(self, text: str) -> str:
        return text.strip()

    def image(self, image: Image) -> list[Piece]:
        return framed(image)

    def written(self, message: Message) -> list[Piece]:
        """Trimmed at both ends, images left where they are."""
        pieces = super().written(message)
        if pieces and isinstance(pieces[0], Content):
            pieces[0] = Content(pieces[0].text.lstrip())
        if pieces and isinstance(pieces[-1], Content):
            pieces[-1] = Content(pieces[-1].text.rstrip())
        return pieces

    def said(self, message: Message, text: str) -> list[Piece]:
        pieces: list[Piece] = [Content(text)]
        for number, one in enumerate(message.get("tool_calls", ())):
            if text.strip() or number:
                pieces.append(Markup("\n" if number else "\n\n"))
            pieces += tagged_call_pieces(one)
        return [*pieces, *unparsed_pieces(message), END]

    def read(self, text: str, tools: Sequence[ToolSpec]) -> Message:
        # The prompt has opened the block.
        reasoning, rest = split_thinking(text if text.lstrip().startswith(OPEN) else f"{OPEN}\n{text}")
        return self._read_said(rest, reasoning, tools)

    def _read_said(self, text: str, reasoning: str, tools: Sequence[ToolSpec]) -> Message:
        said, calls, unparsed = split_calls(text, read_tagged_call, tools)
        return message_of(said.removesuffix("\n\n") if calls else said, reasoning, calls, unparsed)

    def _reasoned(self, message: Message) -> list[Piece]:
        reasoning, _ = reasoning_and_text(message)
        return [Content(self.trimmed(reasoning)), Markup("\n</think>\n\n"), *self._said_after(message)]

    def _said_after(self, message: Message) -> list[Piece]:
        return self.said(message, self.trimmed(reasoning_and_text(message)[1]))

    def _tools(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[Piece]:
        pieces: list[Piece] = [Markup(TOOLS_BEFORE)]
        for tool in tools:
            pieces += [Markup("\n"), Content(to_json(tool))]
        pieces.append(Markup(TOOLS_AFTER))
        system = self.written(messages[0]) if messages and is_system(messages[0]) else []
        if any(isinstance(piece, Content) and piece.text for piece in system):
            pieces += [Markup("\n\n"), *system]
        return [*pieces, END]


class Qwen3_5PreserveThinking(Qwen3_5):
    """All reasoning stays in the history, and every answer as it was sampled, untrimmed."""

    @property
    def has_extension_property(self) -> bool:
        return True

    def past(self, index: int, message: Message, *, since_query: bool) -> Block:
        return super().past(index, message, since_query=True)

    def trimmed(self, text: str) -> str:
        return text


class Qwen3_5DisableThinking(Qwen3_5):
    """The prompt ends with an empty block of reasoning."""

    disables_thinking = True

    def opening(self, messages: Sequence[Message]) -> list[Piece]:
        return [ASSISTANT, Markup("<think>\n\n</think>\n\n")]

    def past(self, index: int, message: Message, *, since_query: bool) -> Block:
        if since_query and not reasoning_and_text(message)[0]:
            return Block(index, self.opening(()), self.produced(message, ()), NEWLINE)
        return super().past(index, message, since_query=since_query)

    def produced(self, message: Message, before: Sequence[Message]) -> list[Piece]:
        return self._said_after(message)

    def read(self, text: str, tools: Sequence[ToolSpec]) -> Message:
        reasoning, rest = split_thinking(text)
        return self._read_said(rest, reasoning, tools)
