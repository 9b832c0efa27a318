"""L = -sum_t [lp_t A_t - beta/2 (lp_t - q_t)^2] (direct reward optimisation, Richemond et al. 2024)."""

from torch import Tensor

from hone.engine.losses.inputs import LossInputs


def dro(logprobs: Tensor, inputs: LossInputs, settings: dict[str, float]) -> Tensor:
    drift = logprobs - inputs["logprobs"]
    return -(logprobs * inputs["advantages"] - 0.5 * settings["beta"] * drift.square()).sum()
