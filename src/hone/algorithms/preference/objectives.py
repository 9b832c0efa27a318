"""What can be learned from preferences: each objective names the datums it needs and what their log-probabilities cost.

Legend: `_P` pairs, `_D` datums.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import tinker
import torch
from pydantic import Field
from torch import Tensor

from hone.algorithms.config import Config
from hone.algorithms.preference import losses
from hone.algorithms.preference.losses import Metrics
from hone.algorithms.preference.pairs import Pair, answer_datum
from hone.algorithms.preference.reference import summed_logprobs
from hone.errors import UserError


class Objective(Config, ABC):
    """Chosen in a configuration by its `kind`."""

    needs_reference: ClassVar[bool] = True

    def check(self, steps: Iterable[Sequence[Any]]) -> None:
        """Look at the examples of every step before anything is trained.

        Raises:
            UserError: some step has nothing that could be learned from.
        """

    @abstractmethod
    def datums(self, examples: Sequence[Any]) -> list[tinker.Datum]:
        """Everything whose log-probabilities the loss of these examples is made of."""

    @abstractmethod
    def loss(
        self, data_D: Sequence[tinker.Datum], logprobs_D: Sequence[Tensor], reference_D: Tensor | None
    ) -> tuple[Tensor, Metrics]:
        """The loss of `datums`, from the log-probabilities `[T]` of each and their sums under the reference `[D]`."""


class PairObjective(Objective):
    """Over pairs: chosen and rejected datums in turn."""

    def datums(self, examples: Sequence[Pair]) -> list[tinker.Datum]:
        return [datum for pair in examples for datum in (pair.chosen, pair.rejected)]

    def loss(
        self, data_D: Sequence[tinker.Datum], logprobs_D: Sequence[Tensor], reference_D: Tensor | None
    ) -> tuple[Tensor, Metrics]:
        sums_D, lengths_D = summed_logprobs(data_D, logprobs_D), _lengths(data_D)
        loss, metrics = self.pair_loss(
            losses.PairScores(
                chosen_P=sums_D[0::2],
                rejected_P=sums_D[1::2],
                chosen_lengths_P=lengths_D[0::2],
                rejected_lengths_P=lengths_D[1::2],
                reference_chosen_P=None if reference_D is None else reference_D[0::2],
                reference_rejected_P=None if reference_D is None else reference_D[1::2],
            )
        )
        return loss, metrics | {"num_pairs": len(data_D) // 2}

    @abstractmethod
    def pair_loss(self, scores: losses.PairScores) -> tuple[Tensor, Metrics]: ...


class Dpo(PairObjective):
    kind: Literal["dpo"] = "dpo"
    beta: float = Field(default=0.1, gt=0)
    """How strongly the model is held to the reference."""
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=0.5)
    """The share of labels taken to be wrong."""

    def pair_loss(self, scores: losses.PairScores) -> tuple[Tensor, Metrics]:
        return losses.dpo(scores, self.beta, self.label_smoothing)


class Ipo(PairObjective):
    kind: Literal["ipo"] = "ipo"
    beta: float = Field(default=0.1, gt=0)
    """The chosen answer's log-ratio shall lead by 1 / (2 beta)."""

    def pair_loss(self, scores: losses.PairScores) -> tuple[Tensor, Metrics]:
        return losses.ipo(scores, self.beta)


class Simpo(PairObjective):
    needs_reference = False
    kind: Literal["simpo"] = "simpo"
    beta: float = Field(default=2.0, gt=0)
    """Scale of the mean log-probabilities."""
    margin: float = 1.0
    """By how much the chosen answer should win, in units of the scaled difference."""

    def pair_loss(self, scores: losses.PairScores) -> tuple[Tensor, Metrics]:
        return losses.simpo(scores, self.beta, self.margin)


class Orpo(PairObjective):
    needs_reference = False
    kind: Literal["orpo"] = "orpo"
    beta: float = Field(default=0.1, gt=0)
    """Weight of the odds beside the likelihood of the chosen answers."""

    def pair_loss(self, scores: losses.PairScores) -> tuple[Tensor, Metrics]:
        return losses.orpo(scores, self.beta)


@dataclass(frozen=True)
class Judged:
    """One answer, and whether it is wanted."""

    prompt: Sequence[int]
    answer: Sequence[int]
    desirable: bool


class Kto(Objective):
    """Over single answers, so data need no pairs."""

    kind: Literal["kto"] = "kto"
    beta: float = Field(default=0.1, gt=0)
    """How strongly the model is held to the reference."""
    desirable_weight: float = Field(default=1.0, gt=0)
    undesirable_weight: float = Field(default=1.0, gt=0)
    """Raise the weight of the rarer kind so that both count alike."""

    def check(self, steps: Iterable[Sequence[Judged]]) -> None:
        for step, examples in enumerate(steps):
            if len({tuple(example.prompt) for example in examples}) < 2:
                raise UserError(
                    f"a step of 'kto' needs two different prompts, as it looks at answers to other prompts, and step "
                    f"{step} has one prompt ({len(examples)} examples); raise `batch_size`, change `seed`, or leave an "
                    "example out"
                )

    def datums(self, examples: Sequence[Judged]) -> list[tinker.Datum]:
        """The answers; then each prompt with the next answer to another one, by which the model's drift is measured."""
        answers_D = [_labelled(example.prompt, example.answer, example.desirable) for example in examples]
        mismatched_D = [answer_datum(one.prompt, _answer_to_another(examples, at)) for at, one in enumerate(examples)]
        return answers_D + mismatched_D

    def loss(
        self, data_D: Sequence[tinker.Datum], logprobs_D: Sequence[Tensor], reference_D: Tensor | None
    ) -> tuple[Tensor, Metrics]:
        assert reference_D is not None
        answers, mismatched = (summed_logprobs(data_D, logprobs_D) - reference_D).chunk(2)
        desirable_D = torch.tensor(
            [bool(datum.loss_fn_inputs["desirable"].data[0]) for datum in data_D[: len(answers)]]
        )
        # Zero times the mismatched answers: the client asks for a gradient of every datum it sent.
        loss, metrics = losses.kto(
            answers, desirable_D, mismatched.mean(), self.beta, self.desirable_weight, self.undesirable_weight
        )
        return loss + 0.0 * mismatched.sum(), metrics


class BradleyTerry(Objective):
    """A reward model from pairs: see `reward_model.py`, which makes the datums."""

    needs_reference = False
    kind: Literal["bradley_terry"] = "bradley_terry"

    def datums(self, examples: Sequence[Pair]) -> list[tinker.Datum]:
        return [datum for pair in examples for datum in (pair.chosen, pair.rejected)]

    def loss(
        self, data_D: Sequence[tinker.Datum], logprobs_D: Sequence[Tensor], reference_D: Tensor | None
    ) -> tuple[Tensor, Metrics]:
        rewards_D = torch.stack([logprobs[-1, 0] - logprobs[-1, 1] for logprobs in logprobs_D])
        return losses.bradley_terry(rewards_D[0::2], rewards_D[1::2])


AnyObjective = Annotated[Dpo | Ipo | Simpo | Orpo | Kto | BradleyTerry, Field(discriminator="kind")]


def _lengths(data_D: Sequence[tinker.Datum]) -> Tensor:
    """Tokens of each answer, `[D]`."""
    return torch.stack([datum.loss_fn_inputs["weights"].to_torch().sum() for datum in data_D])


def _answer_to_another(examples: Sequence[Judged], at: int) -> Sequence[int]:
    """The first answer after place `at`, and around, that belongs to another prompt."""
    prompt = list(examples[at].prompt)
    return next(one.answer for one in (*examples[at + 1 :], *examples[:at]) if list(one.prompt) != prompt)


def _labelled(prompt: Sequence[int], answer: Sequence[int], desirable: bool) -> tinker.Datum:
    """The label travels with the datum; the client keeps it from the server, which knows no such input."""
    datum = answer_datum(prompt, answer)
    label = tinker.TensorData(data=[float(desirable)], dtype="float32", shape=[1])
    return tinker.Datum(model_input=datum.model_input, loss_fn_inputs={**datum.loss_fn_inputs, "desirable": label})
