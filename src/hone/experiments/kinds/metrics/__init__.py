"""Built-in plugins of the kind `metric`, by name: one file each. Adding one is a file and a line here."""

from typing import Any

from hone.experiments.kinds.contract import Metric

METRICS: dict[str, type[Metric[Any]]] = {}
