"""How often the model finds the better answer likelier."""

from __future__ import annotations

from hone.errors import UserError
from hone.experiments.kinds.contract import Metric, NoParams, TaskScores


class PreferenceAccuracy(Metric[NoParams]):
    """1 where the chosen answer is likelier, 0 where the rejected one is, 0.5 where they are alike."""

    bounds = (0.0, 1.0)
    measures = "preferences"

    def task_value(self, scores: TaskScores) -> float:
        if len(scores.values) != 2:
            raise UserError(f"a preference has two likelihoods; {scores.task} has {len(scores.values)}")
        chosen, rejected = scores.values
        return 0.5 if chosen == rejected else float(chosen > rejected)
