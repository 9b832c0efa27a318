"""The mean score of a task's answers."""

from __future__ import annotations

from statistics import fmean

from hone.experiments.kinds.contract import Metric, NoParams, TaskScores


class MeanReward(Metric[NoParams]):
    """How good an answer is, from 0 to 1, on average."""

    bounds = (0.0, 1.0)

    def task_value(self, scores: TaskScores) -> float:
        return fmean(scores.values)
