"""Group sequence policy optimisation, token variant (Zheng et al. 2025, arXiv 2507.18071, eq. 14).

With M the positions of a datum whose `sequence_ratio_mask` is not zero: s = exp(mean over M of (sg(lp) - q)),
s_t = s exp(lp_t - sg(lp_t)), L = -sum_t min(s_t A_t, clip(s_t, low, high) A_t). A datum is one sequence; an empty M
gives s = 1.
"""

import torch
from torch import Tensor

from hone.engine.losses.inputs import LossInputs


def gspo(logprobs: Tensor, inputs: LossInputs, settings: dict[str, float]) -> Tensor:
    now, mask = logprobs.detach(), (inputs["sequence_ratio_mask"] != 0).float()
    drift_D = logprobs.new_zeros(inputs.data).index_add(0, inputs.datum_T, (now - inputs["logprobs"]) * mask)
    count_D = logprobs.new_zeros(inputs.data).index_add(0, inputs.datum_T, mask)
    ratio_D = (drift_D / count_D.clamp(min=1)).exp()
    ratio, advantages = ratio_D[inputs.datum_T] * (logprobs - now).exp(), inputs["advantages"]
    clipped = ratio.clamp(settings["clip_low_threshold"], settings["clip_high_threshold"])
    return -torch.minimum(ratio * advantages, clipped * advantages).sum()
