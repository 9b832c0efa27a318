"""The answer is mathematically equal to the gold answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import PositiveFloat

from hone.algorithms.config import Config
from hone.experiments.kinds.contract import Verifier

if TYPE_CHECKING:
    from hone.algorithms.graders import Grader


class MathsParams(Config):
    seconds: PositiveFloat = 5.0
    """An expression that takes longer to compare is wrong."""


class Maths(Verifier[MathsParams]):
    """1 or 0; both may be LaTeX or plain. Needs `pip install 'hone[math]'`."""

    Params = MathsParams

    def grader(self) -> Grader:
        from hone.algorithms.graders import maths

        return maths.Maths(self.params.seconds)
