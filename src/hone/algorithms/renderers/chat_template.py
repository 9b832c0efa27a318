"""Any Jinja chat template as a renderer: what is trained is found in what the template writes.

An answer's tokens begin where the prompt for it ends, and end with the token that the template puts after an answer.
Where a template rewrites what came before, there is no such place, and training is refused. A template that marks its
answers with `{% generation %}` is taken at its word.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tinker

from hone.algorithms.messages import Message, ToolSpec, read_messages, read_tools
from hone.algorithms.renderers.encoding import Content, Encoder, Markup, Span, Tokenizer
from hone.algorithms.renderers.family import build_supervised_examples, until_stop
from hone.algorithms.renderers.images import ImageProcessor
from hone.algorithms.renderers.renderer import (
    Messages,
    RendererError,
    SupervisedExample,
    Termination,
    TrainOnWhat,
    trained_messages,
)
from hone.algorithms.renderers.template import BEGIN, END, GUARD, PROBE, Template
from hone.algorithms.renderers.thinking import OPEN, split_thinking
from hone.algorithms.renderers.tool_calls import message_of, read_json_call, read_tagged_call, split_calls


@dataclass(frozen=True)
class _Range:
    """Where an answer is in a rendered text, in characters."""

    start: int
    end: int
    """Behind the stop token."""


class ChatTemplate:
    """A `Renderer` of the tokenizer's own chat template, or of `template`. `options` are handed to the template, like
    `enable_thinking`."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        image_processor: ImageProcessor | None = None,
        *,
        template: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._made_of = (tokenizer, image_processor, template, options)
        source = template or tokenizer.chat_template
        if isinstance(source, Mapping):
            source = source.get("default")
        if not isinstance(source, str):
            raise RendererError("the tokenizer has no chat template; give one, or use role_colon for a base model")
        added = (str(token.content) for token in tokenizer.added_tokens_decoder.values())
        self.encoder = Encoder(tokenizer, [text for text in added if text in source])
        special = {name: str(getattr(tokenizer, name, None) or "") for name in ("bos_token", "eos_token")}
        self._template = Template(source, list(self.encoder.controls), special, options or {})
        eos = special["eos_token"]
        self._eos = self.encoder.controls.get(eos)
        self._stop = self._end_of_turn() or eos
        if self._stop not in self.encoder.controls:
            raise RendererError("the chat template puts no token after an answer and the tokenizer has no eos_token")
        self._check_encoding(tokenizer)

    def __reduce__(self) -> Any:
        """Compiled templates cannot be pickled; what they are made of can."""
        return _remade, self._made_of

    @cached_property
    def has_extension_property(self) -> bool:
        """Tried on a conversation with reasoning and calls, as far as the template takes them. A template that trims
        what was sampled has it not."""
        for conversation in _PROBES:
            messages = read_messages(conversation)
            answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
            try:
                whole = self._render(messages, (), generation=True)[0]
                ranges = [self._range(messages, (), i, whole) for i in answers]
            except RendererError:
                continue
            return all(one is not None for one in ranges) and f" {PROBE} " in whole
        return False

    def build_generation_prompt(
        self, messages: Messages, *, tools: Sequence[Any] = (), prefill: str = ""
    ) -> tinker.ModelInput:
        read, specs = read_messages(messages), read_tools(tools)
        text, _ = self._render(read, specs, generation=True)
        ranges = [self._range(read, specs, i, text) for i, one in enumerate(read) if one["role"] == "assistant"]
        spans = list(self._spans(text, [(one, False) for one in ranges if one is not None], False))
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
        read, specs = read_messages(messages), read_tools(tools)
        train_on_what = TrainOnWhat(train_on_what)
        everything = train_on_what is TrainOnWhat.ALL_TOKENS
        trained = trained_messages(read, train_on_what)
        answers = [i for i, message in enumerate(read) if message["role"] == "assistant"]
        if not everything and not trained <= set(answers):
            raise RendererError(
                f"train_on {train_on_what} trains what is not an assistant's, and a chat template does not tell where "
                "that begins; train assistant messages or all_tokens, or use the renderer of the family"
            )
        text, marked = self._render(read, specs, generation=False)
        if marked and len(marked) != len(answers):
            raise RendererError(f"the template marks {len(marked)} generations in {len(answers)} assistant messages")
        found: list[tuple[_Range, bool]] = []
        for number, index in enumerate(answers):
            place = self._range(read, specs, index, text)
            wanted = index in trained and not everything
            if marked and (place is not None or index != len(read) - 1):
                place = _Range(max(marked[number].start, place.start if place else 0), marked[number].end)
            if place is None and (wanted or index == len(read) - 1):
                raise self._not_found(read, specs, index)
            if place is not None:
                found.append((place, wanted))
        if read[-1]["role"] == "assistant":
            text = text[: found[-1][0].end]  # what the template writes behind the stop token is never sampled
        chunks, weights = self.encoder.encode(list(self._spans(text, found, everything)))
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
        text, reasoning, source = self.encoder.decode(tokens), "", self._template.source
        if "</think>" in source:
            opened = self._opens_thinking and not text.lstrip().startswith(OPEN)
            reasoning, text = split_thinking(f"{OPEN}\n{text}" if opened else text)
        if "<tool_call>" not in source:
            return message_of(text, reasoning, [], []), termination
        read = read_tagged_call if "<function=" in source else read_json_call
        said, calls, unparsed = split_calls(text, read, read_tools(tools))
        return message_of(said.rstrip("\n") if calls else said, reasoning, calls, unparsed), termination

    def get_stop_sequences(self) -> list[int]:
        return [self.encoder.controls[self._stop]]

    def _render(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], *, generation: bool
    ) -> tuple[str, list[_Range]]:
        """The text, guards still in it, and what the template marked as generated."""
        ranges: list[_Range] = []
        text, start = "", 0
        for part in re.split(f"([{BEGIN}{END}])", self._template.render(messages, tools, generation=generation)):
            if part == BEGIN:
                start = len(text)
            elif part == END:
                ranges.append(_Range(start, len(text)))
            else:
                text += part
        return text, ranges

    def _range(self, messages: Sequence[Message], tools: Sequence[ToolSpec], index: int, text: str) -> _Range | None:
        """Where message `index` is in the rendered `text`; none if prompt and answer do not stand there unchanged."""
        try:
            prompt = self._render(messages[:index], tools, generation=True)[0]
            told = self._render(messages[: index + 1], tools, generation=False)[0]
        except RendererError:  # a template may want a user's message before it writes anything
            return None
        stop = told.find(self._stop, len(prompt))
        end = stop + len(self._stop)
        unchanged = stop >= 0 and told.startswith(prompt) and text.startswith(told[:end])
        return _Range(len(prompt), end) if unchanged else None

    def _not_found(self, messages: Sequence[Message], tools: Sequence[ToolSpec], index: int) -> RendererError:
        """What helps depends on whether the answer can be found where it is the last message."""
        ending = messages[: index + 1]
        try:
            prompt = self._render(messages[:index], tools, generation=True)[0]
            told = self._render(ending, tools, generation=False)[0]
        except RendererError as error:
            return error
        family = "use the renderer of the model's family, or write one (register_renderer)"
        if self._range(ending, tools, index, told) is not None:
            return RendererError(
                f"messages[{index}] cannot be found in the rendered text: the chat template writes it, or what is "
                "before it, in another way than in the prompt for it. Train one answer per example "
                f"(build_supervised_examples), or {family}"
            )
        return RendererError(
            f"messages[{index}] cannot be found in the rendered text: the chat template does not write it, up to a "
            f"{self._stop}, behind its own prompt for it, which ends in {prompt[-40:].replace(GUARD, '')!r}. If that "
            "opens a block of reasoning, give the message some, or turn reasoning off by the template's options "
            f"(enable_thinking=False or the like); if it closes one, leave the message's out; else {family}"
        )

    def _spans(self, text: str, answers: Sequence[tuple[_Range, bool]], everything: bool) -> Iterator[Span]:
        """The text cut at the answers' beginnings and ends."""
        at = 0
        for place, wanted in answers:
            yield from self._split(text[at : place.start], everything)
            yield from self._split(text[place.start : place.end], everything or wanted, cut=True)
            at = place.end
        yield from self._split(text[at:], everything, cut=bool(answers))

    def _split(self, text: str, trained: bool, cut: bool = False) -> Iterator[Span]:
        for part in self.encoder.split(text):
            control = part in self.encoder.controls
            yield Span(Markup(part) if control else Content(part.replace(GUARD, "")), trained, cut)
            cut = False

    def _end_of_turn(self) -> str | None:
        """The first control token behind an answer."""
        try:
            text = self._render(read_messages(_ONE_TURN), (), generation=False)[0]
        except RendererError:
            return None
        parts = list(self.encoder.split(text.partition(PROBE)[2]))
        return next((part for part in parts if part in self.encoder.controls), None)

    @cached_property
    def _opens_thinking(self) -> bool:
        return self._render(read_messages(_ONE_TURN[:1]), (), generation=True)[0].rstrip().endswith(OPEN)

    def _check_encoding(self, tokenizer: Tokenizer) -> None:
        """Some tokenizers put a space before whatever they are given; their texts cannot be encoded in parts."""
        text = self._render(read_messages(_ONE_TURN[:1]), (), generation=True)[0]
        chunks, _ = self.encoder.encode(list(self._split(text, False)))
        if tinker.ModelInput(chunks=chunks).to_ints() != list(tokenizer.encode(text, add_special_tokens=False)):
            raise RendererError("this tokenizer encodes the parts of a text in another way than the whole text")


def _remade(tokenizer: Any, image_processor: Any, template: Any, options: Any) -> ChatTemplate:
    return ChatTemplate(tokenizer, image_processor, template=template, options=options)


_ONE_TURN: list[dict[str, Any]] = [{"role": "user", "content": "?"}, {"role": "assistant", "content": PROBE}]
_CALL = {"type": "function", "id": "probe", "function": {"name": "probe", "arguments": '{"a": 1}'}}
_ENDING: list[dict[str, Any]] = [{"role": "assistant", "content": f" {PROBE} "}, {"role": "user", "content": "?"}]
_THOUGHT = {"role": "assistant", "content": [{"type": "thinking", "thinking": "a"}, {"type": "text", "text": "b"}]}
_CALLED: list[dict[str, Any]] = [
    {"role": "assistant", "content": "", "tool_calls": [_CALL]},
    {"role": "tool", "content": "1", "tool_call_id": "probe", "name": "probe"},
]
_PROBES: list[list[dict[str, Any]]] = [
    [_ONE_TURN[0], _THOUGHT, _ONE_TURN[0], *_CALLED, *_ENDING],
    [_ONE_TURN[0], _THOUGHT, _ONE_TURN[0], *_ENDING],
    [_ONE_TURN[0], *_CALLED, *_ENDING],
    [_ONE_TURN[0], *_ENDING],
]
"""The first that a template takes decides."""
