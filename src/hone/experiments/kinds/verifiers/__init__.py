"""Built-in plugins of the kind `verifier`, by name: one file each. Adding one is a file and a line here."""

from typing import Any

from hone.experiments.kinds.contract import Verifier

VERIFIERS: dict[str, type[Verifier[Any]]] = {}
