"""Llama 3 to 3.3, without the system text and the tool notation of 3.1 (for these, chat_template)."""

from collections.abc import Sequence
from typing import ClassVar

from hone.algorithms.messages import Message, ToolSpec, is_system
from hone.algorithms.renderers.encoding import Content, Markup, Piece
from hone.algorithms.renderers.family import Block, Family
from hone.algorithms.renderers.renderer import RendererError


class Llama3(Family):
    """The template trims every message; an assistant's is kept as it was sampled, so that a prompt extends it."""

    stops: ClassVar[tuple[str, ...]] = ("<|eot_id|>",)
    begin = "<|begin_of_text|>"
    has_extension_property = True

    def history(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[Block]:
        if tools:
            raise RendererError("llama3 writes no tools; chat_template does, with the template of Llama 3.1")
        return [self._block(index, message) for index, message in enumerate(messages)]

    def opening(self, messages: Sequence[Message]) -> list[Piece]:
        return _header("assistant")

    def produced(self, message: Message, before: Sequence[Message]) -> list[Piece]:
        if "tool_calls" in message:
            raise RendererError("llama3 writes no tool calls; chat_template does, with the template of Llama 3.1")
        return [*self.written(message), Markup("<|eot_id|>")]

    def read(self, text: str, tools: Sequence[ToolSpec]) -> Message:
        return {"role": "assistant", "content": text}

    def _block(self, index: int, message: Message) -> Block:
        if message["role"] == "assistant":
            return Block(index, self.opening(()), self.produced(message, ()))
        text = "".join(piece.text for piece in self.written(message) if isinstance(piece, Content))
        return Block(
            index,
            _header("system" if is_system(message) else message["role"]),
            [Content(text.strip()), Markup("<|eot_id|>")],
        )


def _header(role: str) -> list[Piece]:
    return [Markup(f"<|start_header_id|>{role}<|end_header_id|>\n\n")]
