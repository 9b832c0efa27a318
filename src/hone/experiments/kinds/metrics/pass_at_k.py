"""How likely one of k answers passes."""

from __future__ import annotations

import math

from pydantic import Field, PositiveInt

from hone.algorithms.config import Config
from hone.errors import UserError
from hone.experiments.kinds.contract import Metric, TaskScores


class PassAtKParams(Config):
    k: PositiveInt = 1
    """Answers of which one has to pass; `samples` has to be this or more, and the more the narrower the interval."""
    threshold: float = Field(default=1.0, ge=0, le=1)
    """The score from which an answer passes."""


class PassAtK(Metric[PassAtKParams]):
    """The unbiased estimate `1 - C(n - c, k) / C(n, k)` from n answers of which c pass (Chen et al. 2021, arXiv
    2107.03374, equation 1). `pass@4` is short for `{kind: pass@k, params: {k: 4}}`."""

    bounds = (0.0, 1.0)
    Params = PassAtKParams

    def task_value(self, scores: TaskScores) -> float:
        answers, k = len(scores.values), self.params.k
        if answers < k:
            raise UserError(f"pass@{k} needs {k} answers or more to each task; there are {answers}: raise `samples`")
        failed = sum(value < self.params.threshold for value in scores.values)
        return 1.0 - math.comb(failed, k) / math.comb(answers, k)
