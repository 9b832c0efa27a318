"""Built-in plugins of the kind `inference`, by name: one file each. Adding one is a file and a line here."""

from typing import Any

from hone.experiments.kinds.contract import Inference

INFERENCE: dict[str, type[Inference[Any]]] = {}
