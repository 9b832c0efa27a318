"""A model says whether the answer is better than the gold one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hone.experiments.kinds.contract import Verifier
from hone.experiments.kinds.verifiers.judging import JudgeParams, judge_of

if TYPE_CHECKING:
    from hone.algorithms.graders import Grader


class PairwiseJudge(Verifier[JudgeParams]):
    """1 if the answer is better than the gold one, 0 if it is worse, 0.5 for a tie; asked in both orders."""

    Params = JudgeParams

    def grader(self) -> Grader:
        from hone.algorithms.graders import pairwise

        return pairwise.Pairwise(judge_of(self.params), self.params.criteria, self.params.attempts)
