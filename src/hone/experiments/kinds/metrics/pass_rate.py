"""The share of answers that pass."""

from __future__ import annotations

from pydantic import Field

from hone.algorithms.config import Config
from hone.experiments.kinds.contract import Metric, TaskScores


class PassRateParams(Config):
    threshold: float = Field(default=1.0, ge=0, le=1)
    """The score from which an answer passes."""


class PassRate(Metric[PassRateParams]):
    """How often an answer passes."""

    bounds = (0.0, 1.0)
    Params = PassRateParams

    def task_value(self, scores: TaskScores) -> float:
        return sum(value >= self.params.threshold for value in scores.values) / len(scores.values)
