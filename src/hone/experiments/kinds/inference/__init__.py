"""Built-in plugins of the kind `inference`, by name: one file each. Adding one is a file and a line here."""

from typing import Any

from hone.experiments.kinds.contract import Inference
from hone.experiments.kinds.inference.anthropic import Anthropic
from hone.experiments.kinds.inference.openai import OpenAI
from hone.experiments.kinds.inference.tinker import Tinker

INFERENCE: dict[str, type[Inference[Any]]] = {
    "tinker": Tinker,
    "openai": OpenAI,
    "anthropic": Anthropic,
}
