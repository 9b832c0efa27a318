"""How unlikely right answers are to the model."""

from __future__ import annotations

from statistics import fmean

from hone.experiments.kinds.contract import Metric, NoParams, TaskScores


class NegativeLogLikelihood(Metric[NoParams]):
    """Nats per token of the answers in the rows; the mean over rows is weighted by their tokens."""

    bounds = (0.0, None)
    goal = "min"
    measures = "likelihood"

    def task_value(self, scores: TaskScores) -> float:
        return fmean(scores.values)
