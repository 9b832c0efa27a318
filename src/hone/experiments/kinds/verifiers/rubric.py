"""A model reads the answer and gives points."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import PositiveInt

from hone.experiments.kinds.contract import Verifier
from hone.experiments.kinds.verifiers.judging import JudgeParams, judge_of

if TYPE_CHECKING:
    from hone.algorithms.graders import Grader


class RubricParams(JudgeParams):
    points: PositiveInt = 10
    """The most it may give."""


class Rubric(Verifier[RubricParams]):
    """The share of the points that the judge gives."""

    Params = RubricParams

    def grader(self) -> Grader:
        from hone.algorithms.graders import rubric

        return rubric.Rubric(judge_of(self.params), self.params.criteria, self.params.points, self.params.attempts)
