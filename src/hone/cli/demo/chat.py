"""Between text and the SDK's tokens: prompts in the model's chat template, answers, and training data made of both.

The one place in the demo where an off-by-one could live: position i of a datum's input predicts its target i.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tinker
from transformers import PreTrainedTokenizerBase

MAX_ANSWER_TOKENS = 24


@dataclass(frozen=True)
class Chat:
    tokenizer: PreTrainedTokenizerBase

    @property
    def end_of_turn(self) -> int:
        return int(self.tokenizer.eos_token_id)

    def prompt(self, question: str) -> list[int]:
        """A user turn, and the opening of the assistant's."""
        turn = [{"role": "user", "content": question}]
        text = self.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def answer(self, text: str) -> list[int]:
        return [*self.tokenizer.encode(text, add_special_tokens=False), self.end_of_turn]

    def text(self, answer: Sequence[int]) -> str:
        """What was said, without the end-of-turn token. An answer that was cut off never equals a whole one."""
        if answer and answer[-1] == self.end_of_turn:
            return str(self.tokenizer.decode(list(answer[:-1])))
        return f"{self.tokenizer.decode(list(answer))} [cut off]"

    def sampling_params(self) -> tinker.SamplingParams:
        """One answer at temperature 1: what the model would say, not its single best guess."""
        return tinker.SamplingParams(max_tokens=MAX_ANSWER_TOKENS, temperature=1.0, stop=[self.end_of_turn])


def supervised_datum(prompt: list[int], answer: list[int]) -> tinker.Datum:
    """Learn to say `answer`; the prompt carries no loss."""
    tokens = prompt + answer
    return tinker.Datum(
        model_input=tinker.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={"target_tokens": _integers(tokens[1:]), "weights": _floats(prompt, [1.0] * len(answer))},
    )


def policy_datum(prompt: list[int], sequence: tinker.SampledSequence, advantage: float) -> tinker.Datum:
    """Say `sequence` more often if `advantage` is positive, less often if negative."""
    tokens = prompt + sequence.tokens
    assert sequence.logprobs is not None
    return tinker.Datum(
        model_input=tinker.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={
            "target_tokens": _integers(tokens[1:]),
            "logprobs": _floats(prompt, sequence.logprobs),
            "advantages": _floats(prompt, [advantage] * len(sequence.tokens)),
        },
    )


def _integers(values: list[int]) -> tinker.TensorData:
    return tinker.TensorData.from_numpy(np.array(values, dtype=np.int64))


def _floats(prompt: list[int], values: list[float]) -> tinker.TensorData:
    """Zeros for the targets that lie in the prompt (all of its tokens but the first), then `values`."""
    return tinker.TensorData.from_numpy(np.array([0.0] * (len(prompt) - 1) + values, dtype=np.float32))
