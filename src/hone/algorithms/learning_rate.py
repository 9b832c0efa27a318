"""The learning rate: how high for a model, and how it moves over a run."""

import math
import re
from collections.abc import Callable

from hone.algorithms.config import OptimizerConfig
from hone.errors import UserError

BASE_LR = 5e-5
"""For full fine-tuning of a model 2,000 wide."""
LORA_MULTIPLIER = 10.0
"""LoRA wants ten times the rate of full fine-tuning: Schulman et al., "LoRA Without Regret" (2025)."""
REFERENCE_WIDTH = 2000
WIDTH_EXPONENT = {"qwen": 0.0775, "llama": 0.781}
"""How the best rate falls with the width of a family's models, as published with that study."""
WIDTHS = {
    1024: "qwen3-0.6b",
    2048: "llama-3.2-1b qwen3-1.7b qwen3-30b-a3b qwen3-vl-30b-a3b qwen3.5-35b-a3b qwen3.6-35b-a3b",
    2560: "qwen3-4b qwen3.5-4b",
    3072: "llama-3.2-3b",
    4096: "llama-3-8b llama-3.1-8b qwen3-8b qwen3.5-9b qwen3-235b-a22b qwen3-vl-235b-a22b qwen3.5-397b-a17b",
    5120: "qwen3-14b qwen3-32b qwen3.5-27b qwen3.6-27b",
    8192: "llama-3-70b llama-3.1-70b llama-3.3-70b",
}
"""`hidden_size`, and the models that have it: their names without who made them and what they were tuned for."""
MEASURED = {"hone/tiny": 1e-2}
"""For a model that the study leaves out: the best of `recipes/experiments/learning_rate`, for any of three ranks."""
TUNED = re.compile(r"(-base|-instruct|-thinking)?(-\d{4})?$")


def get_lr(model_name: str) -> float:
    """`recommended_lr` for a model whose width is known here, such as `meta-llama/Llama-3.1-8B`: 2.856e-4. For the
    embedded model, what was measured: 1e-2.

    Raises:
        UserError: nothing is known of the model.
    """
    if model_name in MEASURED:
        return MEASURED[model_name]
    name = TUNED.sub("", model_name.lower().partition(":")[0].rpartition("/")[2].removeprefix("meta-"))
    width = next((width for width, names in WIDTHS.items() if name in names.split()), None)
    if width is None:
        raise UserError(
            f"the width of {model_name!r} is not known here; give `learning_rate`, or for a Llama or a Qwen its "
            "`hidden_size` (see its config.json)"
        )
    return recommended_lr(model_name, width)


def recommended_lr(model_name: str, hidden_size: int) -> float:
    """The rate to begin with for LoRA: `5e-5 * 10 * (2000 / width) ** exponent`, the exponent by model family.

    Llama-3.1-8B (4,096 wide) gives 2.86e-4.

    Raises:
        UserError: the family was not part of the study.
    """
    name = model_name.lower()
    for family, exponent in WIDTH_EXPONENT.items():
        if family in name:
            return BASE_LR * LORA_MULTIPLIER * math.pow(REFERENCE_WIDTH / hidden_size, exponent)
    raise UserError(
        f"no learning rate is published for {model_name!r}, only for models of the families "
        f"{', '.join(sorted(WIDTH_EXPONENT))}; give `learning_rate` (1e-4 to 1e-3 suits most LoRA runs)"
    )


SHAPES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
}
"""The share of the highest rate by `progress` in [0, 1), the part of the run that lies behind."""


def rate_at(config: OptimizerConfig, highest: float, step: int, total_steps: int) -> float:
    """The rate of step `step` of `total_steps`, counted from 0; the warm-up is part of the run."""
    if step < config.warmup_steps:
        return highest * (step + 1) / config.warmup_steps
    falling = max(1, total_steps - config.warmup_steps)
    return highest * SHAPES[config.schedule]((step - config.warmup_steps) / falling)
