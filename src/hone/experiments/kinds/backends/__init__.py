"""Built-in plugins of the kind `backend`, by name: one file each. Adding one is a file and a line here."""

from typing import Any

from hone.experiments.kinds.backends.tinker import Tinker
from hone.experiments.kinds.contract import Backend

BACKENDS: dict[str, type[Backend[Any]]] = {"tinker": Tinker}
