"""The learning rate: how high for a model, and how it moves over a run."""

import math
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
