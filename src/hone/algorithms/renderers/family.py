"""What the families share: each says how its messages look, this makes tokens and weights of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import tinker

from hone.algorithms.messages import Message, ToolSpec, parts_of, read_messages, read_tools
from hone.algorithms.renderers.encoding import Content, Encoder, Image, Markup, Piece, Span, Tokenizer
from hone.algorithms.renderers.images import ImageProcessor, image_chunk
from hone.algorithms.renderers.renderer import (
    Messages,
    RendererError,
    SupervisedExample,
    Termination,
    TrainOnWhat,
    trained_messages,
)
from hone.algorithms.renderers.thinking import reasoning_and_text


@dataclass(frozen=True)
class Block:
    """One message, or something that the format writes without being told, as a part of the sequence."""

    message: int | None
    """Its index; none for what is no message."""
    header: Sequence[Piece] = ()
    """What comes before the message is said, and is not produced with it."""
    output: Sequence[Piece] = ()
    tail: Sequence[Piece] = ()
    """What stands between this and the next block; left out at the end of an example."""


class Family(ABC):
    """A `Renderer` of which a subclass writes the format."""

    markers: ClassVar[tuple[str, ...]] = ()
    """Tokens of the format that its tokenizers may not call special, like <think>."""
    stops: ClassVar[tuple[str, ...]]
    """The tokens that end an answer."""
    begin: ClassVar[str] = ""
    """What every sequence begins with; never trained."""
    disables_thinking: ClassVar[bool] = False
    """Whether the prompt says that nothing is to be thought, so that reasoning must not be trained."""
    takes_images: ClassVar[bool] = False
    trains_overlap: ClassVar[bool] = False
    """Whether what overlaps is trained in the middle of a conversation too, and not only at its end."""

    def __init__(self, tokenizer: Tokenizer, image_processor: ImageProcessor | None = None) -> None:
        self.encoder = Encoder(tokenizer, self.markers)
        self.image_processor = image_processor
        needed = [*self.stops, *self.encoder.split(self.begin)]
        missing = [token for token in needed if token not in self.encoder.controls]
        if missing:
            raise RendererError(
                f"{type(self).__name__} writes {', '.join(needed)}, and the tokenizer has no {missing[0]}; "
                "choose the renderer of the tokenizer's own family, or chat_template"
            )
        eos = getattr(tokenizer, "eos_token", None)
        self._eos = None if eos is None or eos in self.stops else self.encoder.controls.get(str(eos))

    @property
    @abstractmethod
    def has_extension_property(self) -> bool: ...

    @abstractmethod
    def history(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[Block]:
        """Messages as context for what comes next."""

    @abstractmethod
    def opening(self, messages: Sequence[Message]) -> list[Piece]:
        """The header of an assistant's message that will be produced after `messages`."""

    @abstractmethod
    def produced(self, message: Message, before: Sequence[Message]) -> list[Piece]:
        """What a model is to produce after the opening, stop token included."""

    @abstractmethod
    def read(self, text: str, tools: Sequence[ToolSpec]) -> Message:
        """The inverse of `produced`, of text that a model sampled; without the stop token."""

    def overlap(self, message: Message) -> str:
        """Markup that ends the answer and also begins the next header; most formats have none."""
        return ""

    def build_generation_prompt(
        self, messages: Messages, *, tools: Sequence[Any] = (), prefill: str = ""
    ) -> tinker.ModelInput:
        read = read_messages(messages)
        blocks = self.history(read, read_tools(tools))
        spans = [*self._spans(read, blocks, set(), TrainOnWhat.LAST_ASSISTANT_MESSAGE, open_end=True)]
        spans += [Span(piece) for piece in self.opening(read)]
        if prefill:
            spans.append(Span(Markup(prefill), cut=True))
        return tinker.ModelInput(chunks=self.encoder.encode(spans)[0])

    def build_supervised_example(
        self,
        messages: Messages,
        train_on_what: TrainOnWhat = TrainOnWhat.LAST_ASSISTANT_MESSAGE,
        *,
        tools: Sequence[Any] = (),
    ) -> SupervisedExample:
        read = read_messages(messages)
        train_on_what = TrainOnWhat(train_on_what)
        trained = trained_messages(read, train_on_what)
        if read[-1]["role"] == "assistant":
            before = read[:-1]
            if self.disables_thinking and len(before) in trained and _thinks(read[-1]):
                raise RendererError(
                    f"{type(self).__name__} tells the model not to think, and messages[{len(before)}] has reasoning; "
                    "use the thinking renderer of the family, or leave the reasoning out"
                )
            blocks = self.history(before, read_tools(tools))
            blocks.append(Block(len(before), self.opening(before), self.produced(read[-1], before)))
        else:
            blocks = self.history(read, read_tools(tools))
        chunks, weights = self.encoder.encode([*self._spans(read, blocks, trained, train_on_what, open_end=False)])
        return SupervisedExample(tinker.ModelInput(chunks=chunks), np.array(weights, dtype=np.float32))

    def build_supervised_examples(
        self,
        messages: Messages,
        train_on_what: TrainOnWhat = TrainOnWhat.LAST_ASSISTANT_TURN,
        *,
        tools: Sequence[Any] = (),
    ) -> list[SupervisedExample]:
        return build_supervised_examples(self, messages, TrainOnWhat(train_on_what), tools)

    def parse_response(self, response: Sequence[int], *, tools: Sequence[Any] = ()) -> tuple[Message, Termination]:
        tokens, termination = until_stop(response, set(self.get_stop_sequences()), self._eos)
        return self.read(self.encoder.decode(tokens), read_tools(tools)), termination

    def get_stop_sequences(self) -> list[int]:
        return [self.encoder.controls[stop] for stop in self.stops]

    def written(self, message: Message) -> list[Piece]:
        """The content as pieces: text and, where the family takes them, images. Reasoning is not in it."""
        pieces: list[Piece] = []
        for part in parts_of(message):
            if part["type"] == "text":
                pieces.append(Content(part["text"]))
            elif part["type"] == "image":
                if not self.takes_images:
                    raise RendererError(f"{type(self).__name__} writes no images; qwen2_5_vl, qwen3_vl and qwen3_5 do")
                pieces += self.image(Image(image_chunk(part["image"], self.image_processor)))
        return pieces

    def image(self, image: Image) -> list[Piece]:
        """An image with what the format puts around it."""
        return [image]

    def _spans(
        self,
        messages: Sequence[Message],
        blocks: Sequence[Block],
        trained: set[int],
        train_on_what: TrainOnWhat,
        *,
        open_end: bool,
    ) -> Iterator[Span]:
        """The blocks in order. Assistants' outputs are cut off from what stands around them, wherever they are, as
        they were when they were sampled. `open_end`: an opening follows."""
        everything = train_on_what is TrainOnWhat.ALL_TOKENS
        if self.begin:
            yield Span(Markup(self.begin))
        overlap, overlap_trained = "", False
        for place, block in enumerate(blocks):
            last = place == len(blocks) - 1
            header = list(block.header)
            if overlap and header and isinstance(header[0], Markup) and header[0].text.startswith(overlap):
                yield Span(Markup(overlap), everything or (overlap_trained and self.trains_overlap))
                header[0] = Markup(header[0].text.removeprefix(overlap))
            for piece in header:
                yield Span(piece, everything)
            message = None if block.message is None else messages[block.message]
            counts = everything or block.message in trained
            sampled = message is not None and message["role"] == "assistant"
            for index, piece in enumerate(block.output):
                yield Span(piece, counts, cut=sampled and index == 0)
            overlap, overlap_trained = (
                ("", False) if message is None or not sampled else (self.overlap(message), counts)
            )
            if last and not open_end:
                if overlap:
                    yield Span(Markup(overlap), counts)
                return
            for index, piece in enumerate(block.tail):
                yield Span(piece, everything, cut=sampled and index == 0)


def build_supervised_examples(
    renderer: Any, messages: Messages, train_on_what: TrainOnWhat, tools: Sequence[Any]
) -> list[SupervisedExample]:
    """Each trained assistant message at the end of its own example, unless one sequence can hold them all."""
    if renderer.has_extension_property:
        return [renderer.build_supervised_example(messages, train_on_what, tools=tools)]
    read = read_messages(messages)
    trained = sorted(trained_messages(read, train_on_what))
    if train_on_what is TrainOnWhat.ALL_TOKENS or any(read[index]["role"] != "assistant" for index in trained):
        raise RendererError(
            f"train_on {train_on_what} trains what is not an assistant's, and {type(renderer).__name__} writes history "
            "in another way than answers, so there is no prompt for it; train assistant messages"
        )
    bare: list[Any] = [{key: value for key, value in message.items() if key != "trainable"} for message in read]
    last = TrainOnWhat.LAST_ASSISTANT_MESSAGE
    return [renderer.build_supervised_example(bare[: index + 1], last, tools=tools) for index in trained]


def until_stop(response: Sequence[int], stops: set[int], eos: int | None) -> tuple[Sequence[int], Termination]:
    """The tokens before the first stop, and how the answer ended."""
    for index, token in enumerate(response):
        if token in stops or token == eos:
            ending = Termination.STOP_SEQUENCE if token in stops else Termination.EOS
            return response[:index], ending if index == len(response) - 1 else Termination.MALFORMED
    return response, Termination.MALFORMED


def _thinks(message: Message) -> bool:
    return bool(reasoning_and_text(message)[0].strip())
