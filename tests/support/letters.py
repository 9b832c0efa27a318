"""A chat format for the stand-in service, whose tokens are letters: `question=answer`, and the end token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tinker

from hone.algorithms.messages import Message, text_of
from hone.algorithms.renderers import RENDERERS, SupervisedExample, Termination, TrainOnWhat
from tests.support.fake_tinker import END, FakeTokenizer

NAME = "letters"


class Letters:
    """A renderer."""

    has_extension_property = True

    def __init__(self, tokenizer: Any = None, image_processor: Any = None) -> None:
        self._tokenizer = FakeTokenizer()

    def build_generation_prompt(
        self, messages: Sequence[Message], *, tools: Sequence[Any] = (), prefill: str = ""
    ) -> tinker.ModelInput:
        text = " ".join(text_of(message) for message in messages) + "=" + prefill
        return tinker.ModelInput.from_ints(self._tokenizer.encode(text))

    def build_supervised_example(
        self,
        messages: Sequence[Message],
        train_on_what: TrainOnWhat = TrainOnWhat.LAST_ASSISTANT_MESSAGE,
        *,
        tools: Sequence[Any] = (),
    ) -> SupervisedExample:
        prompt = self.build_generation_prompt(messages[:-1]).to_ints()
        answer = [*self._tokenizer.encode(text_of(messages[-1])), END]
        weights = np.array([0.0] * len(prompt) + [1.0] * len(answer), dtype=np.float32)
        return SupervisedExample(tinker.ModelInput.from_ints(prompt + answer), weights)

    def build_supervised_examples(
        self,
        messages: Sequence[Message],
        train_on_what: TrainOnWhat = TrainOnWhat.LAST_ASSISTANT_TURN,
        *,
        tools: Sequence[Any] = (),
    ) -> list[SupervisedExample]:
        return [self.build_supervised_example(messages, train_on_what, tools=tools)]

    def parse_response(self, response: Sequence[int], *, tools: Sequence[Any] = ()) -> tuple[Message, Termination]:
        ended = bool(response) and response[-1] == END
        text = self._tokenizer.decode(list(response), skip_special_tokens=True)
        return {"role": "assistant", "content": text}, Termination.STOP_SEQUENCE if ended else Termination.MALFORMED

    def get_stop_sequences(self) -> list[int]:
        return [END]


RENDERERS.setdefault(NAME, Letters)
