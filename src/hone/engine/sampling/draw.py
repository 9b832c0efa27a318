"""Chooses the next token of every row, and its log-probability.

Reported log-probabilities are those of the temperature-scaled distribution, before top-k and top-p; for greedy rows,
those of the unscaled one. A row's result depends on its own logits and uniform number only.

Legend: B rows, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hone.engine.native.draw import can_draw, draw_native
from hone.protocol.types import SamplingParams

MIN_TEMPERATURE = 1e-6
"""Below this sampling is greedy: the distribution has one token left, and scaled logits would overflow."""


@dataclass(frozen=True)
class Draws:
    tokens: list[int]
    logprobs: list[float]
    logits_BV: Tensor
    temperature_B1: Tensor

    def logprobs_V(self, row: int) -> Tensor:
        """Of every token."""
        return _logprobs(self.logits_BV[row], self.temperature_B1[row])


@dataclass(frozen=True)
class DrawSettings:
    """The sampling parameters of the rows of a batch."""

    temperature_B1: Tensor
    """float32 [B, 1]; 1 where greedy"""
    greedy_B1: Tensor | None
    """bool [B, 1]; None where no row is"""
    filters: dict[int, tuple[int, float]]
    """top_k and top_p of the rows that have any"""

    def to(self, device: torch.device) -> "DrawSettings":
        if self.temperature_B1.device == device:
            return self
        greedy_B1 = None if self.greedy_B1 is None else self.greedy_B1.to(device)
        return DrawSettings(self.temperature_B1.to(device), greedy_B1, self.filters)

    def of(self, rows: list[int]) -> "DrawSettings":
        """Those rows alone."""
        greedy_B1 = None if self.greedy_B1 is None else self.greedy_B1[rows]
        filters = {place: self.filters[row] for place, row in enumerate(rows) if row in self.filters}
        return DrawSettings(self.temperature_B1[rows], greedy_B1, filters)


def draw_settings(params: Sequence[SamplingParams]) -> DrawSettings:
    """One row for each."""
    greedy = [p.temperature < MIN_TEMPERATURE for p in params]
    return DrawSettings(
        temperature_B1=torch.tensor(
            [[1.0 if g else float(p.temperature)] for p, g in zip(params, greedy, strict=True)]
        ),
        greedy_B1=torch.tensor(greedy)[:, None] if any(greedy) else None,
        filters={row: (p.top_k, p.top_p) for row, p in enumerate(params) if p.top_k > 0 or p.top_p < 1},
    )


def draw(logits_BV: Tensor, settings: DrawSettings, uniforms_B: Tensor) -> Draws:
    """Sample by inversion: the first token whose cumulative probability passes the row's uniform number in [0, 1)."""
    settings, uniforms_B = settings.to(logits_BV.device), uniforms_B.to(logits_BV.device)
    if not can_draw(logits_BV):
        tokens, logprobs = _draw(logits_BV, settings, uniforms_B)
    elif settings.filters:
        tokens, logprobs = _draw_apart(logits_BV, settings, uniforms_B)
    else:
        tokens, logprobs = _draw_in_c(logits_BV, settings, uniforms_B)
    return Draws(tokens, logprobs, logits_BV, settings.temperature_B1)


def _draw_apart(logits_BV: Tensor, settings: DrawSettings, uniforms_B: Tensor) -> tuple[list[int], list[float]]:
    """Filtered rows by the framework; the others in C, which knows no filters."""
    tokens, logprobs = [0] * len(logits_BV), [0.0] * len(logits_BV)
    filtered = sorted(settings.filters)
    plain = [row for row in range(len(logits_BV)) if row not in settings.filters]
    for rows, function in ((filtered, _draw), (plain, _draw_in_c)):
        found = function(logits_BV[rows], settings.of(rows), uniforms_B[rows])
        for row, token, logprob in zip(rows, *found, strict=True):
            tokens[row], logprobs[row] = token, logprob
    return tokens, logprobs


def _draw_in_c(logits_BV: Tensor, settings: DrawSettings, uniforms_B: Tensor) -> tuple[list[int], list[float]]:
    return draw_native(logits_BV, settings.temperature_B1, settings.greedy_B1, uniforms_B)


def _draw(logits_BV: Tensor, settings: DrawSettings, uniforms_B: Tensor) -> tuple[list[int], list[float]]:
    """Tokens and their log-probabilities."""
    logprobs_BV = _logprobs(logits_BV, settings.temperature_B1)
    probabilities_BV = logprobs_BV.exp()
    for row, (top_k, top_p) in settings.filters.items():
        probabilities_BV[row] = _filtered(probabilities_BV[row], top_k, top_p)
    cumulative_BV = probabilities_BV.cumsum(dim=-1, dtype=torch.float64)
    goals_B1 = cumulative_BV[:, -1:] * uniforms_B[:, None]
    sampled_B1 = torch.searchsorted(cumulative_BV, goals_B1, right=True).clamp_(max=logits_BV.shape[1] - 1)
    if settings.greedy_B1 is not None:
        sampled_B1 = torch.where(settings.greedy_B1, logprobs_BV.argmax(dim=-1, keepdim=True), sampled_B1)
    return sampled_B1.flatten().tolist(), logprobs_BV.gather(1, sampled_B1).flatten().tolist()


def _logprobs(logits: Tensor, temperature: Tensor) -> Tensor:
    return torch.log_softmax(logits.float() / temperature, dim=-1)


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
