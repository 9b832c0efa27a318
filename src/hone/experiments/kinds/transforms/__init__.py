"""Built-in plugins of the kind `transform`, by name: one file each. Adding one is a file and a line here."""

from typing import Any

from hone.experiments.kinds.contract import Transform

TRANSFORMS: dict[str, type[Transform[Any]]] = {}
