"""How far apart two policies are on the tokens that one of them sampled.

Schulman's estimators of KL(q || p) from samples of q (joschu.net/blog/kl-approx.html), with d = log q - log p: k1 = d,
unbiased and noisy; k2 = d^2 / 2, biased and quiet; k3 = exp(-d) - 1 + d, unbiased, never negative. They are reported as
v1, v2, v3. All are means over sampled tokens, in nats. Legend: `_D` data, `_T` positions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import tinker

from hone.algorithms.datums import Floats, PolicyDatum
from hone.algorithms.rl.config import KlPenaltyConfig
from hone.algorithms.scoring import target_logprobs


def estimates(drifts: Floats) -> dict[str, float]:
    """`v1`, `v2` and `v3` from d of every token; nan without tokens."""
    if not len(drifts):
        return dict.fromkeys(("v1", "v2", "v3"), float("nan"))
    d = drifts.astype(np.float64)
    return {"v1": float(d.mean()), "v2": float(0.5 * (d**2).mean()), "v3": float((np.expm1(-d) + d).mean())}


def sample_train_kl(data_D: Sequence[PolicyDatum], logprobs_D: Sequence[Floats]) -> dict[str, float]:
    """Of the sampler's policy from the trainer's, as the trainer computed it, and the sampler's entropy.

    On-policy it is the numerical difference between the two; with substeps or older samples it grows.
    """
    sampled = _of_sampled(data_D, [item.sampled_logprobs_T for item in data_D])
    kl = estimates(sampled - _of_sampled(data_D, logprobs_D))
    return {f"optim/kl_sample_train_{name}": value for name, value in kl.items()} | {
        "optim/entropy": -float(sampled.mean(dtype=np.float64)) if len(sampled) else float("nan")
    }


async def pre_post_kl(
    data_D: Sequence[PolicyDatum], sampler: tinker.SamplingClient, slots: asyncio.Semaphore
) -> dict[str, float]:
    """Of the policy that sampled from that of `sampler`, the one after the step."""
    after_D = await target_logprobs(sampler, [item.datum for item in data_D], slots)
    drifts = _of_sampled(data_D, [item.sampled_logprobs_T for item in data_D]) - _of_sampled(data_D, after_D)
    return {f"kl_pre_post_{name}": value for name, value in estimates(drifts).items()}


async def reference_sampler(
    service: tinker.ServiceClient, config: KlPenaltyConfig | None, base_model: str
) -> tinker.SamplingClient | None:
    """What the penalty keeps the policy near."""
    if config is None:
        return None
    sampler: tinker.SamplingClient
    if config.reference is not None:
        sampler = await service.create_sampling_client(model_path=config.reference)
    else:
        sampler = await service.create_sampling_client(base_model=base_model)
    return sampler


async def with_penalty(
    data_D: Sequence[PolicyDatum],
    reference: tinker.SamplingClient | None,
    config: KlPenaltyConfig | None,
    slots: asyncio.Semaphore,
) -> tuple[list[PolicyDatum], dict[str, float]]:
    """Advantages less what the drift from the reference costs: `A_t += c (mean d - d_t)` on sampled tokens.

    The mean is over the whole batch, so the penalty adds no advantage on the whole. With a discount, a token carries
    the discounted sum of its own term and those behind it.
    """
    if config is None or reference is None or not data_D:
        return list(data_D), {}
    reference_D = await target_logprobs(reference, [item.datum for item in data_D], slots)
    drift_D = [
        (item.sampled_logprobs_T - logprobs_T) * item.mask_T
        for item, logprobs_T in zip(data_D, reference_D, strict=True)
    ]
    tokens = sum(float(item.mask_T.sum()) for item in data_D)
    mean = sum(float(drift_T.sum(dtype=np.float64)) for drift_T in drift_D) / tokens if tokens else 0.0
    penalised = []
    for item, drift_T in zip(data_D, drift_D, strict=True):
        terms_T = config.coefficient * item.mask_T * (np.float32(mean) - drift_T)
        if config.discount:
            # On sampled tokens only: the service may refuse an advantage on a prompt's.
            terms_T = discounted_sums(terms_T, config.discount) * item.mask_T
        penalised.append(item.with_advantages((item.advantages_T + terms_T).astype(np.float32)))
    return penalised, {"kl_policy_base": mean}


def discounted_sums(values_T: Floats, discount: float) -> Floats:
    """`sum over k of discount^k values[t + k]`."""
    sums_T = np.empty_like(values_T)
    running = 0.0
    for t in reversed(range(len(values_T))):
        running = float(values_T[t]) + discount * running
        sums_T[t] = running
    return sums_T


def _of_sampled(data_D: Sequence[PolicyDatum], values_D: Sequence[Floats]) -> Floats:
    """The values at sampled tokens, of all data in one row."""
    kept = [values_T[item.mask_T > 0] for item, values_T in zip(data_D, values_D, strict=True)]
    return np.concatenate(kept) if kept else np.zeros(0, dtype=np.float32)
