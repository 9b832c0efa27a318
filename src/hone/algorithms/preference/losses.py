"""Preference losses as plain functions of summed log-probabilities: means over pairs, to be minimised.

Legend: `_P` one value per pair, `_D` one per single answer; ratios are log pi(answer) - log pi_ref(answer), in nats.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Metrics = dict[str, float]


@dataclass(frozen=True)
class PairScores:
    """What a pairwise loss may look at."""

    chosen_P: Tensor
    """Summed log-probability of the chosen answers under the model that learns."""
    rejected_P: Tensor
    chosen_lengths_P: Tensor
    """Tokens of the chosen answers."""
    rejected_lengths_P: Tensor
    reference_chosen_P: Tensor | None = None
    """The same under the frozen reference; None for losses that need none."""
    reference_rejected_P: Tensor | None = None

    @property
    def ratios_P(self) -> tuple[Tensor, Tensor]:
        assert self.reference_chosen_P is not None
        assert self.reference_rejected_P is not None
        return self.chosen_P - self.reference_chosen_P, self.rejected_P - self.reference_rejected_P


def dpo(scores: PairScores, beta: float, label_smoothing: float = 0.0) -> tuple[Tensor, Metrics]:
    """Direct Preference Optimization: `-log sigmoid(beta (ratio_chosen - ratio_rejected))`.

    Rafailov et al. 2023 (arXiv 2305.18290), equation 7. With `label_smoothing` epsilon, labels are taken to be wrong
    that often: conservative DPO (Mitchell 2023).
    """
    chosen_P, rejected_P = scores.ratios_P
    logits_P = beta * (chosen_P - rejected_P)
    losses_P = -(1 - label_smoothing) * F.logsigmoid(logits_P) - label_smoothing * F.logsigmoid(-logits_P)
    return losses_P.mean(), _reward_metrics(beta * chosen_P, beta * rejected_P)


def ipo(scores: PairScores, beta: float) -> tuple[Tensor, Metrics]:
    """Identity Preference Optimization: `((ratio_chosen - ratio_rejected) - 1 / (2 beta)) ** 2`.

    Azar et al. 2023 (arXiv 2310.12036), equation 17, with tau = beta. Unlike DPO it has a finite target.
    """
    chosen_P, rejected_P = scores.ratios_P
    losses_P = (chosen_P - rejected_P - 1 / (2 * beta)) ** 2
    return losses_P.mean(), _reward_metrics(beta * chosen_P, beta * rejected_P)


def simpo(scores: PairScores, beta: float, margin: float) -> tuple[Tensor, Metrics]:
    """SimPO: `-log sigmoid(beta (mean logprob chosen - mean logprob rejected) - margin)`; no reference.

    Meng et al. 2024 (arXiv 2405.14734), equation 6.
    """
    chosen_P = beta * scores.chosen_P / scores.chosen_lengths_P
    rejected_P = beta * scores.rejected_P / scores.rejected_lengths_P
    return -F.logsigmoid(chosen_P - rejected_P - margin).mean(), _reward_metrics(chosen_P, rejected_P)


def orpo(scores: PairScores, beta: float) -> tuple[Tensor, Metrics]:
    """ORPO: the chosen answers' mean NLL, plus beta times `-log sigmoid(log odds chosen - log odds rejected)`.

    Odds are p / (1 - p) with p the geometric mean of an answer's token probabilities; no reference.
    Hong et al. 2024 (arXiv 2403.07691), equations 6 and 7.
    """
    chosen_P = scores.chosen_P / scores.chosen_lengths_P
    rejected_P = scores.rejected_P / scores.rejected_lengths_P
    odds_P = _log_odds(chosen_P) - _log_odds(rejected_P)
    loss = -chosen_P.mean() - beta * F.logsigmoid(odds_P).mean()
    return loss, _reward_metrics(beta * chosen_P, beta * rejected_P) | {"chosen_nll": -chosen_P.mean().item()}


def kto(
    ratios_D: Tensor,
    desirable_D: Tensor,
    baseline: Tensor,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> tuple[Tensor, Metrics]:
    """Kahneman-Tversky Optimization over single answers that are desirable (True) or not.

    `weight * (1 - sigmoid(+-beta (ratio - z)))`, with z the `baseline`: how far the model has moved from the reference
    in general, estimated on answers that belong to other prompts, not below zero and without gradient.
    Ethayarajh et al. 2024 (arXiv 2402.01306), equation 8.
    """
    z = baseline.detach().clamp(min=0.0)
    values_D = torch.where(
        desirable_D,
        desirable_weight * (1 - torch.sigmoid(beta * (ratios_D - z))),
        undesirable_weight * (1 - torch.sigmoid(beta * (z - ratios_D))),
    )
    rewards_D = (beta * ratios_D).detach()
    metrics = {"kl": z.item()}
    if desirable_D.any():
        metrics["chosen_reward"] = rewards_D[desirable_D].mean().item()
    if (~desirable_D).any():
        metrics["rejected_reward"] = rewards_D[~desirable_D].mean().item()
    return values_D.mean(), metrics


def bradley_terry(chosen_rewards_P: Tensor, rejected_rewards_P: Tensor) -> tuple[Tensor, Metrics]:
    """The negative log-likelihood of the labels when P(chosen wins) = sigmoid(reward chosen - reward rejected).

    Bradley and Terry 1952; as a reward model's loss, Ouyang et al. 2022 (arXiv 2203.02155), equation 1.
    """
    loss = -F.logsigmoid(chosen_rewards_P - rejected_rewards_P).mean()
    return loss, _reward_metrics(chosen_rewards_P, rejected_rewards_P)


def _log_odds(mean_logprobs_P: Tensor) -> Tensor:
    """log(p / (1 - p)) from log p; p is held just below 1, where the odds have no bound."""
    held_P = mean_logprobs_P.clamp(max=-1e-6)
    return held_P - torch.log(-torch.expm1(held_P))


def _reward_metrics(chosen_P: Tensor, rejected_P: Tensor) -> Metrics:
    """Implicit rewards: how often and by how much the chosen answer has the higher one."""
    return {
        "accuracy": (chosen_P > rejected_P).float().mean().item(),
        "margin": (chosen_P - rejected_P).mean().item(),
        "chosen_reward": chosen_P.mean().item(),
        "rejected_reward": rejected_P.mean().item(),
    }
