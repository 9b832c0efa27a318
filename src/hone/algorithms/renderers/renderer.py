"""What a renderer promises: messages to tokens for training and sampling, and sampled tokens back to a message."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import tinker

from hone.algorithms.messages import Message, is_system
from hone.errors import UserError

Messages = Sequence[Any]
"""Anything that `messages.read_messages` takes."""


class RendererError(UserError):
    """A conversation that this format cannot write, or settings that do not fit together."""


class TrainOnWhat(StrEnum):
    """Which tokens of a conversation carry weight 1. The headers between messages carry it for `ALL_TOKENS` only."""

    LAST_ASSISTANT_MESSAGE = "last_assistant_message"
    LAST_ASSISTANT_TURN = "last_assistant_turn"
    """Every assistant message after the last user message: tool calls and the answer that follows."""
    ALL_ASSISTANT_MESSAGES = "all_assistant_messages"
    ALL_MESSAGES = "all_messages"
    ALL_TOKENS = "all_tokens"
    ALL_USER_AND_SYSTEM_MESSAGES = "all_user_and_system_messages"
    """A developer's count as system messages, as formats write them; tinker-cookbook 0.6.1 leaves them out."""
    CUSTOMIZED = "customized"
    """Messages whose `trainable` is true; every message must say."""


class Termination(StrEnum):
    """How a sampled answer ended. Unlike other strings, one is true only if it `is_clean`."""

    STOP_SEQUENCE = "stop_sequence"
    EOS = "eos"
    """With the tokenizer's end token where the format has a stop sequence of its own."""
    MALFORMED = "malformed"
    """With neither (cut off), or with more after it."""

    @property
    def is_clean(self) -> bool:
        """What grading should look at."""
        return self is not Termination.MALFORMED

    @property
    def is_stop_sequence(self) -> bool:
        """What a reward for format should look at."""
        return self is Termination.STOP_SEQUENCE

    def __bool__(self) -> bool:
        return self.is_clean


class SupervisedExample(NamedTuple):
    """A sequence to learn from; not yet shifted, see `datums.supervised_datum`."""

    model_input: tinker.ModelInput
    weights: npt.NDArray[np.float32]
    """`[T]`, 0 or 1, one for each position of `model_input`; images count as many as they have tokens."""


class Renderer(Protocol):
    """The chat format of a model family with one tokenizer.

    The promise that training relies on: a supervised example whose last message is an assistant's begins with
    exactly the tokens of `build_generation_prompt` for the messages before it, so a model is trained on what it will
    be sampled from. Only tokens that it would have to produce carry weight there.

    Text in messages never becomes a control token, whatever it spells.
    """

    @property
    def has_extension_property(self) -> bool:
        """Whether a prompt always begins with the prompt before it and the answer sampled from that one.

        Then one sequence can train every turn. Formats that drop reasoning from the history do not have it."""
        ...

    def build_generation_prompt(
        self, messages: Messages, *, tools: Sequence[Any] = (), prefill: str = ""
    ) -> tinker.ModelInput:
        """Everything before an assistant's next token. `prefill` begins its answer; control tokens may be in it."""
        ...

    def build_supervised_example(
        self,
        messages: Messages,
        train_on_what: TrainOnWhat = TrainOnWhat.LAST_ASSISTANT_MESSAGE,
        *,
        tools: Sequence[Any] = (),
    ) -> SupervisedExample:
        """The conversation as one sequence, up to the stop token of its last message.

        Without the extension property, earlier assistant messages are written as history, not as they were sampled:
        to train them too use `build_supervised_examples`."""
        ...

    def build_supervised_examples(
        self,
        messages: Messages,
        train_on_what: TrainOnWhat = TrainOnWhat.LAST_ASSISTANT_TURN,
        *,
        tools: Sequence[Any] = (),
    ) -> list[SupervisedExample]:
        """One example with the extension property; else one for each assistant message that is trained."""
        ...

    def parse_response(self, response: Sequence[int], *, tools: Sequence[Any] = ()) -> tuple[Message, Termination]:
        """What sampled tokens say. Never raises for what a model may sample.

        Tool calls that cannot be read are in `unparsed_tool_calls`, each with the reason. `tools` tell formats that
        write arguments without quotes which of them are text."""
        ...

    def get_stop_sequences(self) -> list[int] | list[str]:
        """For `SamplingParams.stop`: token ids, or strings where the format has no stop token."""
        ...


def trained_messages(messages: Sequence[Message], train_on_what: TrainOnWhat) -> set[int]:
    """The indices of the messages whose output carries weight."""
    says = ["trainable" in message for message in messages]
    if train_on_what is TrainOnWhat.CUSTOMIZED:
        if not all(says):
            raise RendererError(
                f"train_on customized: message {says.index(False)} does not say whether it is trainable"
            )
        return {index for index, message in enumerate(messages) if message["trainable"]}
    if any(says):
        raise RendererError(
            f"message {says.index(True)} says whether it is trainable, which only counts with train_on customized; "
            f"train_on is {train_on_what}"
        )
    assistants = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    last_user = max((index for index, message in enumerate(messages) if message["role"] == "user"), default=-1)
    match train_on_what:
        case TrainOnWhat.LAST_ASSISTANT_MESSAGE:
            # Only a conversation's end: an answer that is followed by a question is history.
            return {index for index in assistants if index == len(messages) - 1}
        case TrainOnWhat.LAST_ASSISTANT_TURN:
            return {index for index in assistants if index > last_user}
        case TrainOnWhat.ALL_ASSISTANT_MESSAGES:
            return set(assistants)
        case TrainOnWhat.ALL_USER_AND_SYSTEM_MESSAGES:
            return {index for index, message in enumerate(messages) if message["role"] == "user" or is_system(message)}
    return set(range(len(messages)))
