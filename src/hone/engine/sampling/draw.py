"""Chooses the next token of every row, and its log-probability.

Reported log-probabilities are those of the temperature-scaled distribution, before top-k and top-p; for greedy rows,
those of the unscaled one. A row's result depends on its own logits and uniform number only.

Legend: B rows, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hone.protocol.types import SamplingParams

MIN_TEMPERATURE = 1e-6
"""Below this sampling is greedy: the distribution has one token left, and scaled logits would overflow."""


@dataclass(frozen=True)
class Draws:
    tokens: list[int]
    logprobs: list[float]
    logprobs_BV: Tensor


@dataclass(frozen=True)
class DrawSettings:
    """The sampling parameters of the rows of a batch."""

    temperature_B1: Tensor
    """float32 [B, 1]; 1 where greedy"""
    greedy_B: Tensor
    """bool"""
    top_k: list[int]
    top_p: list[float]

    @property
    def filters(self) -> bool:
        return any(k > 0 for k in self.top_k) or any(p < 1 for p in self.top_p)


def draw_settings(params: Sequence[SamplingParams]) -> DrawSettings:
    """One row for each."""
    greedy = [p.temperature < MIN_TEMPERATURE for p in params]
    return DrawSettings(
        temperature_B1=torch.tensor([[1.0 if g else p.temperature] for p, g in zip(params, greedy, strict=True)]),
        greedy_B=torch.tensor(greedy),
        top_k=[p.top_k for p in params],
        top_p=[p.top_p for p in params],
    )


def draw(logits_BV: Tensor, settings: DrawSettings, uniforms_B: Tensor) -> Draws:
    """Sample by inversion: the first token whose cumulative probability passes the row's uniform number in [0, 1)."""
    logprobs_BV = torch.log_softmax(logits_BV.float() / settings.temperature_B1, dim=-1)
    probabilities_BV = logprobs_BV.exp()
    if settings.filters:
        for row, (k, p) in enumerate(zip(settings.top_k, settings.top_p, strict=True)):
            probabilities_BV[row] = _filtered(probabilities_BV[row], k, p)
    cumulative_BV = probabilities_BV.cumsum(dim=-1, dtype=torch.float64)
    goals_B1 = (uniforms_B * cumulative_BV[:, -1])[:, None]
    sampled_B = torch.searchsorted(cumulative_BV, goals_B1, right=True).squeeze(1).clamp_(max=logits_BV.shape[1] - 1)
    if bool(settings.greedy_B.any()):
        sampled_B = torch.where(settings.greedy_B, logprobs_BV.argmax(dim=-1), sampled_B)
    chosen_B = logprobs_BV.gather(1, sampled_B[:, None]).squeeze(1)
    return Draws(sampled_B.tolist(), chosen_B.tolist(), logprobs_BV)


def _filtered(probabilities_V: Tensor, top_k: int, top_p: float) -> Tensor:
    """Zero all but the `top_k` likeliest, then all but the smallest set that holds `top_p` of what is left."""
    ordered, order = probabilities_V.sort(descending=True, stable=True)
    if top_k > 0:
        ordered[top_k:] = 0
    if top_p < 1:
        before = ordered.cumsum(0) - ordered
        before[0] = -1.0  # the likeliest token always stays
        ordered[before >= top_p * ordered.sum()] = 0
    return torch.zeros_like(probabilities_V).scatter_(0, order, ordered)
