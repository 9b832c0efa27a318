"""A model that is not trained as a judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field, NonNegativeFloat, PositiveInt

from hone.algorithms.config import Config
from hone.errors import UserError
from hone.experiments.config import Spec
from hone.experiments.kinds.contract import Inference

if TYPE_CHECKING:
    from hone.algorithms.messages import Message


class InferenceSpec(Spec):
    """A model to ask."""

    registry = "inference"


class JudgeParams(Config):
    """What verifiers that ask a model have in common."""

    judge: InferenceSpec = Field(examples=[{"kind": "openai", "params": {"model": "gpt-5-mini"}}])
    """The model, by its kind of inference: `{kind: openai, params: {...}}`."""
    criteria: str | None = None
    """What makes an answer good; without it the row's column `rubric`."""
    attempts: PositiveInt = 2
    """How often the judge is asked before an answer in no known form counts as no verdict."""
    max_tokens: PositiveInt = 1024
    """Of the judge's answer."""
    temperature: NonNegativeFloat = 0.0
    """Of the first attempt; later ones vary."""


@dataclass(frozen=True)
class Judge:
    """A kind of inference in the form that graders ask."""

    model: Inference[Any]
    max_tokens: int
    temperature: float

    async def __call__(self, messages: Sequence[Message], *, seed: int) -> str:
        from hone.algorithms.graders import GradingError

        temperature = self.temperature if seed == 0 else max(self.temperature, 0.7)
        try:
            return await self.model.generate(messages, max_tokens=self.max_tokens, temperature=temperature, seed=seed)
        except UserError as error:
            raise GradingError(f"the judge does not answer: {error}") from error


def judge_of(params: JudgeParams) -> Judge:
    from hone.experiments.kinds import plugins  # which knows the verifiers

    return Judge(plugins.inference.make(params.judge.kind, params.judge.params), params.max_tokens, params.temperature)
