"""gpt-oss: the Harmony format, where every part of an answer names its channel."""

import datetime
import re
from collections.abc import Sequence
from typing import Any, ClassVar

from hone.algorithms.messages import (
    Message,
    ToolCall,
    ToolSpec,
    UnparsedToolCall,
    called_name,
    is_system,
    text_of,
    thinking_of,
)
from hone.algorithms.renderers.encoding import Content, Markup, Piece, Tokenizer
from hone.algorithms.renderers.family import Block, Family, until_stop
from hone.algorithms.renderers.images import ImageProcessor
from hone.algorithms.renderers.renderer import Termination
from hone.algorithms.renderers.tool_calls import CallError, call, check_object, message_of
from hone.algorithms.renderers.typescript import namespace

START = "<|start|>assistant"
CHANNELS = "# Valid channels: analysis, commentary, final. Channel must be included for every message."
FUNCTIONS = "\nCalls to these tools must go to the commentary channel: 'functions'."


class GptOss(Family):
    """Reasoning goes to the channel `analysis`. It is kept in the history only with calls of tools that no answer has
    followed yet. An answer ends with <|return|> when it is produced, and with <|end|> in the history."""

    stops: ClassVar[tuple[str, ...]] = ("<|return|>", "<|call|>")
    effort: ClassVar[str | None] = None

    def __init__(
        self,
        tokenizer: Tokenizer,
        image_processor: ImageProcessor | None = None,
        today: datetime.date | None = None,
    ) -> None:
        """`today` stands in the system text; the day on which the renderer is made, if it is not given."""
        super().__init__(tokenizer, image_processor)
        self.today = today or datetime.date.today()

    @property
    def has_extension_property(self) -> bool:
        return False

    def history(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[Block]:
        blocks = [] if self.effort is None else [Block(None, self._system(bool(tools)))]
        first = bool(messages) and is_system(messages[0])
        if first or tools:
            blocks.append(_instructions(0 if first else None, messages[0] if first else None, tools))
        answers = [i for i, one in enumerate(messages) if one["role"] == "assistant" and not one.get("tool_calls")]
        last_answer = answers[-1] if answers else -1
        head: list[Piece]
        output: list[Piece]
        for index, message in enumerate(messages[int(first) :], int(first)):
            if is_system(message):
                blocks.append(_instructions(index, message, ()))
            elif message["role"] == "tool":
                name = called_name(messages, index) or "unknown"
                head = [Markup("<|start|>functions."), Content(name), Markup(" to=assistant")]
                output = [Markup("<|channel|>commentary<|message|>"), *self.written(message), Markup("<|end|>")]
                blocks.append(Block(index, head, output))
            elif message["role"] == "user":
                output = [Markup("<|message|>"), *self.written(message), Markup("<|end|>")]
                blocks.append(Block(index, [Markup("<|start|>user")], output))
            else:
                output = _output(message, reasoning=index > last_answer, answer_end="<|end|>")
                blocks.append(Block(index, [Markup(START)], output))
        return blocks

    def opening(self, messages: Sequence[Message]) -> list[Piece]:
        return [Markup(START)]

    def produced(self, message: Message, before: Sequence[Message]) -> list[Piece]:
        return _output(message, reasoning=True, answer_end="<|return|>")

    def parse_response(self, response: Sequence[int], *, tools: Sequence[Any] = ()) -> tuple[Message, Termination]:
        stops = set(self.get_stop_sequences())
        tokens, termination = until_stop(response, stops, self._eos)
        ended = [token for token in response[len(tokens) : len(tokens) + 1] if token in stops]
        return self.read(self.encoder.decode([*tokens, *ended]), ()), termination

    def read(self, text: str, tools: Sequence[ToolSpec]) -> Message:
        """By channel. Text outside of any channel is taken as the answer."""
        thought: list[str] = []
        said: list[str] = []
        calls: list[ToolCall] = []
        unparsed: list[UnparsedToolCall] = []
        for part in re.split(r"<\|end\|>|<\|return\|>", text):
            raw = part.removeprefix(START)
            if not raw:
                continue
            header, message, body = raw.partition("<|message|>")
            to = re.search(r"to=(?:functions\.)?([^\s<]+)", header)
            channel = re.search(r"<\|channel\|>\s*(\w+)", header)
            if not message:
                said.append(raw)
            elif to is not None:
                try:
                    calls.append(_read_call(to[1], body))
                except CallError as error:
                    unparsed.append({"raw_text": raw, "error": str(error)})
            elif channel is not None and channel[1] == "analysis":
                thought.append(body)
            else:
                said.append(body)
        return message_of("".join(said), "\n".join(thought), calls, unparsed)

    def _system(self, with_tools: bool) -> list[Piece]:
        text = (
            "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n"
            f"Knowledge cutoff: 2024-06\nCurrent date: {self.today.isoformat()}\n\n"
            f"Reasoning: {self.effort}\n\n{CHANNELS}"
        )
        return [Markup(f"{text}{FUNCTIONS if with_tools else ''}<|end|>")]


class GptOssLow(GptOss):
    effort = "low"


class GptOssMedium(GptOss):
    effort = "medium"


class GptOssHigh(GptOss):
    effort = "high"


def _instructions(index: int | None, message: Message | None, tools: Sequence[ToolSpec]) -> Block:
    pieces: list[Piece] = []
    if message is not None and text_of(message):
        pieces += [Markup("# Instructions\n\n"), Content(text_of(message)), Markup("\n\n")]
    if tools:
        pieces += [Markup("# Tools\n\n"), Content(namespace("functions", tools))]
    if not pieces:
        return Block(index)  # an empty system text is not written at all
    return Block(index, [Markup("<|start|>developer")], [Markup("<|message|>"), *pieces, Markup("<|end|>")])


def _output(message: Message, *, reasoning: bool, answer_end: str) -> list[Piece]:
    """From behind the first `<|start|>assistant`."""
    text, thought = text_of(message), thinking_of(message)
    calls = message.get("tool_calls", ())
    if calls and not thought:
        text, thought = "", text  # what is said with a call, and to nobody, is analysis
    pieces: list[Piece] = []
    if thought and reasoning:
        pieces += [Markup("<|channel|>analysis<|message|>"), Content(thought), Markup("<|end|>"), Markup(START)]
    if not calls:
        pieces += [Markup("<|channel|>final<|message|>"), Content(text)]
        pieces += [Content(unparsed["raw_text"]) for unparsed in message.get("unparsed_tool_calls", ())]
        return [*pieces, Markup(answer_end)]
    if text:
        pieces += [Markup("<|channel|>commentary<|message|>"), Content(text), Markup("<|end|>"), Markup(START)]
    for number, one in enumerate(calls):
        pieces += [Markup(f"{START if number else ''} to=functions."), Content(one["function"]["name"])]
        pieces += [Markup("<|channel|>commentary json<|message|>"), Content(one["function"]["arguments"])]
        pieces.append(Markup("<|call|>"))
    return pieces


def _read_call(name: str, body: str) -> ToolCall:
    arguments, ended, after = body.partition("<|call|>")
    if not ended:
        raise CallError("it does not end with <|call|>")
    if after:
        raise CallError("something follows its <|call|>")
    return call(name, check_object(arguments))
