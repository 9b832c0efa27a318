"""L = -sum_t sg(clip(r_t, low, high)) lp_t A_t (MiniMax-M1, arXiv 2506.13585, eq. 4): clipped weights, every token
keeps a gradient."""

from torch import Tensor

from hone.engine.losses.inputs import LossInputs


def cispo(logprobs: Tensor, inputs: LossInputs, settings: dict[str, float]) -> Tensor:
    ratio = (logprobs - inputs["logprobs"]).exp()
    weight = ratio.clamp(settings["clip_low_threshold"], settings["clip_high_threshold"]).detach()
    return -(weight * logprobs * inputs["advantages"]).sum()
