"""Built-in plugins of the kind `algorithm`, by name: one file each. Adding one is a file and a line here."""

from typing import Any

from hone.experiments.kinds.contract import Algorithm

ALGORITHMS: dict[str, type[Algorithm[Any]]] = {}
