"""Built-in plugins of the kind `metric`, by name: one file each. Adding one is a file and a line here.

Tokens, time and cost of a task are not here: they come with every measurement, from its usage.
"""

import re
from typing import Any

from hone.experiments.config import Spec
from hone.experiments.kinds.contract import Metric
from hone.experiments.kinds.metrics.mean_reward import MeanReward
from hone.experiments.kinds.metrics.nll import NegativeLogLikelihood
from hone.experiments.kinds.metrics.pass_at_k import PassAtK
from hone.experiments.kinds.metrics.pass_rate import PassRate
from hone.experiments.kinds.metrics.preference_accuracy import PreferenceAccuracy

METRICS: dict[str, type[Metric[Any]]] = {
    "mean_reward": MeanReward,
    "pass_rate": PassRate,
    "pass@k": PassAtK,
    "nll": NegativeLogLikelihood,
    "preference_accuracy": PreferenceAccuracy,
}


def metric_spec(metric: Spec | str) -> Spec:
    """What a metric's name stands for: `pass@4` for `pass@k` with `k: 4`, any other for the metric without params."""
    if isinstance(metric, Spec):
        return metric
    short = re.fullmatch(r"pass@(\d+)", metric)
    return Spec(kind="pass@k", params={"k": int(short.group(1))}) if short else Spec(kind=metric)


def metric_name(metric: Spec | str) -> str:
    """What a metric is called in results: `pass@4` again, and otherwise `kind` or `kind(param=value, ...)`."""
    spec = metric_spec(metric)
    params = dict(spec.params)
    kind = f"pass@{params.pop('k', 1)}" if spec.kind == "pass@k" else spec.kind
    told = ", ".join(f"{name}={value}" for name, value in sorted(params.items()))
    return f"{kind}({told})" if told else kind
