"""L = -sum_t r_t A_t; the gradient flows through the ratio."""

from torch import Tensor

from hone.engine.losses.inputs import LossInputs


def importance_sampling(logprobs: Tensor, inputs: LossInputs, settings: dict[str, float]) -> Tensor:
    ratio = (logprobs - inputs["logprobs"]).exp()
    return -(ratio * inputs["advantages"]).sum()
