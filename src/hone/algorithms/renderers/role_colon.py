"""`User: ...`, blank line, `Assistant: ...`: for base models, which know no control tokens."""

from collections.abc import Sequence
from typing import ClassVar

from hone.algorithms.messages import Message, ToolSpec
from hone.algorithms.renderers.encoding import Markup, Piece, Tokenizer
from hone.algorithms.renderers.family import Block, Family
from hone.algorithms.renderers.images import ImageProcessor
from hone.algorithms.renderers.renderer import Messages, RendererError, Termination

STOP = "\n\nUser:"


class RoleColon(Family):
    """An answer ends with the text that begins the next question, which is a stop string, not a token."""

    stops: ClassVar[tuple[str, ...]] = ()
    has_extension_property = True

    def __init__(self, tokenizer: Tokenizer, image_processor: ImageProcessor | None = None) -> None:
        super().__init__(tokenizer, image_processor)
        self.begin = str(tokenizer.bos_token or "")  # type: ignore[misc]

    def history(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[Block]:
        if tools or any(message["role"] == "tool" for message in messages):
            raise RendererError("role_colon writes no tools; use the renderer of a chat model")
        return [
            Block(index, [Markup(f"{message['role'].capitalize()}:")], self.produced(message, ()))
            for index, message in enumerate(messages)
        ]

    def opening(self, messages: Sequence[Message]) -> list[Piece]:
        return [Markup("Assistant:")]

    def produced(self, message: Message, before: Sequence[Message]) -> list[Piece]:
        if "tool_calls" in message:
            raise RendererError("role_colon writes no tool calls; use the renderer of a chat model")
        return [Markup(" "), *self.written(message), Markup("\n\n")]

    def overlap(self, message: Message) -> str:
        return "User:"

    def get_stop_sequences(self) -> list[str]:  # type: ignore[override]
        return [STOP]

    def parse_response(self, response: Sequence[int], *, tools: Messages = ()) -> tuple[Message, Termination]:
        tokens, ended = list(response), False
        if self._eos in tokens:
            end = tokens.index(self._eos)
            tokens, ended = tokens[:end], end == len(tokens) - 1
        text, stop, after = self.encoder.decode(tokens).partition(STOP)
        clean = (bool(stop) and not after) != ended
        ending = Termination.STOP_SEQUENCE if stop else Termination.EOS
        return self.read(text, ()), ending if clean else Termination.MALFORMED

    def read(self, text: str, tools: Sequence[ToolSpec]) -> Message:
        return {"role": "assistant", "content": text.removeprefix(" ")}
