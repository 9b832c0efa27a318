"""A language model of two matrices, for `fake_tinker`: small enough to train in microseconds, and every number exact.

The next token's logits are linear in the last token and in the mean of all tokens so far, so it can learn what follows
what, and what a prompt says anywhere. Training changes a matrix beside the frozen one, as an adapter does. Legend: `_T`
positions, `_V` vocabulary, `_F` features (2 V).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass
class Adapter:
    """What training changes, with its optimizer."""

    delta_FV: Array
    m_FV: Array
    v_FV: Array
    steps: int = 0

    @classmethod
    def fresh(cls, vocabulary: int) -> Adapter:
        return cls(*(np.zeros((2 * vocabulary, vocabulary)) for _ in range(3)))

    def copy(self, optimizer: bool = True) -> Adapter:
        if not optimizer:
            return Adapter(self.delta_FV.copy(), np.zeros_like(self.m_FV), np.zeros_like(self.v_FV))
        return Adapter(self.delta_FV.copy(), self.m_FV.copy(), self.v_FV.copy(), self.steps)

    def adam_step(self, gradient_FV: Array, adam: Any) -> dict[str, float]:
        """AdamW with decoupled weight decay, gradients scaled down to `grad_clip_norm` if that is set."""
        norm = float(np.linalg.norm(gradient_FV))
        if adam.grad_clip_norm > 0 and norm > adam.grad_clip_norm:
            gradient_FV = gradient_FV * (adam.grad_clip_norm / norm)
        self.steps += 1
        self.m_FV += (1 - adam.beta1) * (gradient_FV - self.m_FV)
        self.v_FV += (1 - adam.beta2) * (gradient_FV**2 - self.v_FV)
        m_hat = self.m_FV / (1 - adam.beta1**self.steps)
        v_hat = self.v_FV / (1 - adam.beta2**self.steps)
        self.delta_FV *= 1 - adam.learning_rate * adam.weight_decay
        self.delta_FV -= adam.learning_rate * m_hat / (np.sqrt(v_hat) + adam.eps)
        return {"optimizer/grad_norm": norm}


@dataclass
class TinyModel:
    """The frozen part; `name` draws it."""

    name: str
    vocabulary: int
    base_FV: Array = field(init=False)

    def __post_init__(self) -> None:
        draw = np.random.default_rng(zlib.crc32(self.name.encode()))
        self.base_FV = 0.3 * draw.standard_normal((2 * self.vocabulary, self.vocabulary))

    def logprobs_TV(self, tokens: list[int], adapter: Adapter | None, temperature: float = 1.0) -> Array:
        """Row t is the distribution of the token after position t."""
        return log_softmax(self.features_TF(tokens) @ self._weights_FV(adapter) / temperature)

    def features_TF(self, tokens: list[int]) -> Array:
        last_TV = np.eye(self.vocabulary)[np.asarray(tokens, dtype=np.int64)]
        mean_TV = last_TV.cumsum(axis=0) / np.arange(1, len(tokens) + 1)[:, None]
        return np.concatenate([last_TV, mean_TV], axis=1)

    def sample(
        self,
        prompt: list[int],
        adapter: Adapter | None,
        *,
        max_tokens: int,
        temperature: float,
        draw: np.random.Generator,
        ends: Callable[[list[int]], bool],
    ) -> tuple[list[int], list[float], bool]:
        """Tokens, their log-probabilities, and whether `ends` said to stop. Temperature 0 takes the likeliest."""
        weights_FV = self._weights_FV(adapter)
        counts_V = np.bincount(prompt, minlength=self.vocabulary).astype(np.float64)
        last, tokens, logprobs = prompt[-1], list[int](), list[float]()
        while len(tokens) < max_tokens:
            mean_V = counts_V / (len(prompt) + len(tokens))
            logits_V = weights_FV[last] + mean_V @ weights_FV[self.vocabulary :]
            logprobs_V = log_softmax(logits_V[None] / (temperature or 1.0))[0]
            if temperature == 0:
                last = int(logits_V.argmax())
            else:
                last = min(
                    int(np.searchsorted(np.exp(logprobs_V).cumsum(), draw.random(), side="right")), self.vocabulary - 1
                )
            counts_V[last] += 1
            tokens.append(last)
            logprobs.append(float(logprobs_V[last]))
            if ends(tokens):
                return tokens, logprobs, True
        return tokens, logprobs, False

    def gradient_FV(self, tokens: list[int], adapter: Adapter, targets_TK: npt.NDArray[Any], by_TK: Array) -> Array:
        """Of a loss whose derivative by the log-probability of target k at position t is `by_TK`."""
        probs_TV = np.exp(self.logprobs_TV(tokens, adapter))
        by_logits_TV = -by_TK.sum(axis=1, keepdims=True) * probs_TV
        rows = np.arange(len(tokens))[:, None]
        np.add.at(by_logits_TV, (rows, targets_TK), by_TK)
        return self.features_TF(tokens).T @ by_logits_TV

    def _weights_FV(self, adapter: Adapter | None) -> Array:
        return self.base_FV if adapter is None else self.base_FV + adapter.delta_FV


def log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


# ---- losses: each gives its value and its derivative by the targets' log-probabilities


@dataclass(frozen=True)
class Loss:
    inputs: tuple[str, ...]
    """Needed beside `target_tokens`, of the same shape."""
    settings: Mapping[str, float]
    compute: Callable[[Array, dict[str, Array], Mapping[str, float]], tuple[float, Array]]


def cross_entropy(lp: Array, inputs: dict[str, Array], settings: Mapping[str, float]) -> tuple[float, Array]:
    return float(-(lp * inputs["weights"]).sum()), -inputs["weights"]


def importance_sampling(lp: Array, inputs: dict[str, Array], settings: Mapping[str, float]) -> tuple[float, Array]:
    pushed = np.exp(lp - inputs["logprobs"]) * inputs["advantages"]
    return float(-pushed.sum()), -pushed


def ppo(lp: Array, inputs: dict[str, Array], settings: Mapping[str, float]) -> tuple[float, Array]:
    return _clipped(np.exp(lp - inputs["logprobs"]), inputs["advantages"], settings)


def cispo(lp: Array, inputs: dict[str, Array], settings: Mapping[str, float]) -> tuple[float, Array]:
    ratio = np.exp(lp - inputs["logprobs"])
    weight = ratio.clip(settings["clip_low_threshold"], settings["clip_high_threshold"]) * inputs["advantages"]
    return float(-(weight * lp).sum()), -weight


def dro(lp: Array, inputs: dict[str, Array], settings: Mapping[str, float]) -> tuple[float, Array]:
    drift, beta = lp - inputs["logprobs"], settings["beta"]
    value = lp * inputs["advantages"] - 0.5 * beta * drift**2
    return float(-value.sum()), -(inputs["advantages"] - beta * drift)


def gspo(lp: Array, inputs: dict[str, Array], settings: Mapping[str, float]) -> tuple[float, Array]:
    counted = inputs["sequence_ratio_mask"] != 0
    drift = (lp - inputs["logprobs"])[counted]
    ratio = np.full_like(lp, np.exp(drift.mean() if counted.any() else 0.0))
    return _clipped(ratio, inputs["advantages"], settings)


def stable_reinforce(lp: Array, inputs: dict[str, Array], settings: Mapping[str, float]) -> tuple[float, Array]:
    """The formula of the hosted service is not public: this is REINFORCE with a capped ratio."""
    weight = np.exp(lp - inputs["logprobs"]).clip(max=2.0) * inputs["advantages"]
    return float(-(weight * lp).sum()), -weight


def _clipped(ratio: Array, advantages: Array, settings: Mapping[str, float]) -> tuple[float, Array]:
    clipped = ratio.clip(settings["clip_low_threshold"], settings["clip_high_threshold"])
    free, held = ratio * advantages, clipped * advantages
    return float(-np.minimum(free, held).sum()), np.where(free <= held, -free, 0.0)


POLICY = ("logprobs", "advantages")
LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss(("weights",), {}, cross_entropy),
    "importance_sampling": Loss(POLICY, {}, importance_sampling),
    "ppo": Loss(POLICY, {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2}, ppo),
    "cispo": Loss(POLICY, {"clip_low_threshold": 0.0, "clip_high_threshold": 4.0}, cispo),
    "dro": Loss(POLICY, {"beta": 0.05}, dro),
    "gspo": Loss(
        (*POLICY, "sequence_ratio_mask"), {"clip_low_threshold": 1 - 3e-4, "clip_high_threshold": 1 + 4e-4}, gspo
    ),
    "stable_reinforce": Loss(POLICY, {"kl_coeff": 0.0}, stable_reinforce),
}
