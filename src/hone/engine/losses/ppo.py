"""L = -sum_t min(r_t A_t, clip(r_t, low, high) A_t) (Schulman et al. 2017, eq. 7); the thresholds bound the ratio
itself."""

import torch
from torch import Tensor

from hone.engine.losses.inputs import LossInputs


def ppo(logprobs: Tensor, inputs: LossInputs, settings: dict[str, float]) -> Tensor:
    ratio, advantages = (logprobs - inputs["logprobs"]).exp(), inputs["advantages"]
    clipped = ratio.clamp(settings["clip_low_threshold"], settings["clip_high_threshold"])
    return -torch.minimum(ratio * advantages, clipped * advantages).sum()
