"""Built-in plugins of the kind `source`, by name: one file each. Adding one is a file and a line here."""

from typing import Any

from hone.experiments.kinds.contract import Source

SOURCES: dict[str, type[Source[Any]]] = {}
