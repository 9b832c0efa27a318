"""A documented substitute for the hosted service's `stable_reinforce`, whose formula is not public.

Truncated importance-weighted REINFORCE with an optional KL term, which serves the same purpose: robust against a
sampler that differs from the trainer. With c = `ratio_cap`: L = -sum_t sg(min(r_t, c)) lp_t A_t + kl_coeff sum_t k_t,
where k_t = exp(q_t - lp_t) - 1 + lp_t - q_t is Schulman's low-variance estimate of KL (k3), over positions with an
advantage. Results carry the metric `stable_reinforce_substitute:mean`.
"""

from torch import Tensor

from hone.engine.losses.inputs import LossInputs


def stable_reinforce(logprobs: Tensor, inputs: LossInputs, settings: dict[str, float]) -> Tensor:
    sampled, advantages = inputs["logprobs"], inputs["advantages"]
    weight = (logprobs - sampled).exp().clamp(max=settings["ratio_cap"]).detach()
    loss = -(weight * logprobs * advantages).sum()
    if settings["kl_coeff"]:
        drift = (sampled - logprobs) * (advantages != 0)  # k_t of no drift is 0; a prompt's may be huge
        loss = loss + settings["kl_coeff"] * (drift.exp() - 1 - drift).sum()
    return loss
