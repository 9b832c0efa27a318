"""Built-in plugins of the kind `store`, by name: one file each. Adding one is a file and a line here."""

from typing import Any

from hone.experiments.kinds.contract import Store

STORES: dict[str, type[Store[Any]]] = {}
