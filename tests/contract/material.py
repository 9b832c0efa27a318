"""What the contract tests train on and ask: short sums in the model's chat template, and data in the SDK's types."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tinker
import torch
from transformers import PreTrainedTokenizerBase

TOLERANCE = 2e-5
"""Nats. Sampler and trainer share one forward pass in float32; the engine itself is tested ten times tighter."""

# A large eps makes the step proportional to the gradient, so that a wrong size of the gradient shows.
PROPORTIONAL_STEP = tinker.AdamParams(learning_rate=0.02, eps=1.0)
STEP = tinker.AdamParams(learning_rate=1e-2)


@dataclass(frozen=True)
class Material:
    tokenizer: PreTrainedTokenizerBase

    @property
    def end_of_turn(self) -> int:
        return int(self.tokenizer.eos_token_id)

    def question(self, number: int = 0) -> list[int]:
        """The tokens of a chat prompt; another one for each number."""
        rng = random.Random(number)
        turn = [{"role": "user", "content": f"What is {rng.randint(1, 9)} + {rng.randint(1, 9)}?"}]
        text = self.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def prompt(self, number: int = 0) -> tinker.ModelInput:
        return tinker.ModelInput.from_ints(self.question(number))

    def sequence(self, number: int = 0) -> list[int]:
        return [
            *self.question(number),
            *self.tokenizer.encode(f" {number}", add_special_tokens=False),
            self.end_of_turn,
        ]


def datum(tokens: Sequence[int], weights: Sequence[float] | None = None) -> tinker.Datum:
    """Cross entropy on every token but the first, all weights one unless given."""
    return tinker.Datum(
        model_input=tinker.ModelInput.from_ints(list(tokens[:-1])),
        loss_fn_inputs={
            "target_tokens": integers(tokens[1:]),
            "weights": floats([1.0] * (len(tokens) - 1) if weights is None else weights),
        },
    )


def policy_datum(prompt: Sequence[int], sampled: tinker.SampledSequence, advantage: float) -> tinker.Datum:
    tokens = [*prompt, *sampled.tokens]
    before = [0.0] * (len(prompt) - 1)
    assert sampled.logprobs is not None
    return tinker.Datum(
        model_input=tinker.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={
            "target_tokens": integers(tokens[1:]),
            "logprobs": floats([*before, *sampled.logprobs]),
            "advantages": floats([*before, *[advantage] * len(sampled.tokens)]),
        },
    )


def integers(values: Sequence[int]) -> tinker.TensorData:
    return tinker.TensorData.from_numpy(np.array(values, dtype=np.int64))


def floats(values: Sequence[float]) -> tinker.TensorData:
    return tinker.TensorData.from_numpy(np.array(values, dtype=np.float32))


def logprobs(output: tinker.ForwardBackwardOutput) -> list[torch.Tensor]:
    """One tensor per datum."""
    return [one["logprobs"].to_torch() for one in output.loss_fn_outputs]


def forward(training: tinker.TrainingClient, data: list[tinker.Datum]) -> torch.Tensor:
    """The log-probabilities of all data, one after another."""
    return torch.cat(logprobs(training.forward(data, "cross_entropy").result()))
