"""Several verifiers in one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, NonNegativeFloat, model_validator

from hone.algorithms.config import Config
from hone.experiments.config import Spec
from hone.experiments.kinds.contract import Verifier

if TYPE_CHECKING:
    from hone.algorithms.graders import Grader


class PartParams(Config):
    verifier: Spec
    """One of the verifiers."""
    weight: NonNegativeFloat = 1.0
    """Its share in a weighted mean, among the weights of all parts."""
    name: str | None = None
    """What it is called in details; without it its kind."""


class CompositeParams(Config):
    parts: list[PartParams] = Field(
        min_length=1,
        examples=[[{"verifier": {"kind": "exact"}, "weight": 3}, {"verifier": {"kind": "contains"}, "weight": 1}]],
    )
    """What the score is made of."""
    mode: Literal["weighted", "all"] = "weighted"
    """`weighted`: the weighted mean of scores. `all`: the lowest, so that an answer is right only if all say so."""

    @model_validator(mode="after")
    def _names(self) -> CompositeParams:
        names = [part.name or part.verifier.kind for part in self.parts]
        if len(set(names)) < len(names):
            raise ValueError(f"parts have names of their own; found {', '.join(names)}: give `name` where kinds repeat")
        if self.mode == "weighted" and not any(part.weight for part in self.parts):
            raise ValueError("weights are not all 0")
        return self


class Composite(Verifier[CompositeParams]):
    """One score of several."""

    Params = CompositeParams

    def grader(self) -> Grader:
        from hone.algorithms.graders import composite
        from hone.experiments.kinds import plugins  # which knows this one

        graders = {
            part.name or part.verifier.kind: plugins.verifiers.make(part.verifier.kind, part.verifier.params).grader()
            for part in self.params.parts
        }
        if self.params.mode == "all":
            return composite.AllOf(graders)
        weights = [part.weight for part in self.params.parts]
        return composite.Weighted(
            {name: (grader, weight) for (name, grader), weight in zip(graders.items(), weights, strict=True)}
        )
