"""L = -sum_t w_t lp_t; with K targets per position the sum runs over them too (soft targets)."""

from torch import Tensor

from hone.engine.losses.inputs import LossInputs


def cross_entropy(logprobs: Tensor, inputs: LossInputs, settings: dict[str, float]) -> Tensor:
    return -(inputs["weights"] * logprobs).sum()
