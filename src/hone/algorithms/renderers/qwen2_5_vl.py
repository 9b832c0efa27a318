"""Qwen 2.5 VL: ChatML with images, and with a system text where the conversation has none; no tools, no reasoning."""

from collections.abc import Sequence

from hone.algorithms.messages import Message, ToolSpec, is_system
from hone.algorithms.renderers.encoding import Content, Image, Markup, Piece
from hone.algorithms.renderers.family import Block
from hone.algorithms.renderers.qwen3 import END, NEWLINE, Qwen3Instruct
from hone.algorithms.renderers.qwen3_vl import framed
from hone.algorithms.renderers.renderer import RendererError

SYSTEM = Block(None, [Markup("<|im_start|>system\n")], [Content("You are a helpful assistant."), END], NEWLINE)


class Qwen2_5VL(Qwen3Instruct):
    takes_images = True

    def history(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[Block]:
        if tools:
            raise RendererError("qwen2_5_vl writes no tools; qwen3_vl does")
        said = [
            self.past(index, message, since_query=False)
            if message["role"] == "assistant"
            else self._block(index, message)
            for index, message in enumerate(messages)
        ]
        return said if messages and is_system(messages[0]) else [SYSTEM, *said]

    def produced(self, message: Message, before: Sequence[Message]) -> list[Piece]:
        if "tool_calls" in message:
            raise RendererError("qwen2_5_vl writes no tool calls; qwen3_vl does")
        return [*self.written(message), END]

    def read(self, text: str, tools: Sequence[ToolSpec]) -> Message:
        return {"role": "assistant", "content": text}

    def image(self, image: Image) -> list[Piece]:
        return framed(image)
