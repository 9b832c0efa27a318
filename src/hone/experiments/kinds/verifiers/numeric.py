"""The number in the answer is the number in the gold answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import NonNegativeFloat

from hone.algorithms.config import Config
from hone.experiments.kinds.contract import Verifier

if TYPE_CHECKING:
    from hone.algorithms.graders import Grader


class NumericParams(Config):
    tolerance: NonNegativeFloat = 1e-6
    """Relative to the gold number; absolute where that is below 1."""


class Numeric(Verifier[NumericParams]):
    """1 or 0; reads the number that is marked as the answer, else the last one of the text."""

    Params = NumericParams

    def grader(self) -> Grader:
        from hone.algorithms.graders import numeric

        return numeric.Numeric(self.params.tolerance)
