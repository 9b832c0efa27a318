"""Compares a loss with its formula, written again in float64 NumPy, in value and gradient."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch

from hone.engine.losses import evaluate
from hone.engine.losses.inputs import gather_inputs
from hone.engine.losses.value import LossValue
from hone.protocol.losses import loss_settings
from hone.protocol.types import Datum

Formula = Callable[[np.ndarray, np.ndarray], float]
"""(lp, now) -> loss; `now` equals lp, and stands where the formula stops the gradient."""

STEP = 1e-5


def datum(**inputs: Sequence[float] | np.ndarray) -> Datum:
    """A datum whose loss inputs are these; its tokens do not matter to a loss."""
    arrays = {name: np.asarray(values, np.float32) for name, values in inputs.items()}
    shape = next(iter(arrays.values())).shape
    return Datum(np.zeros(shape[0], np.int32), {"target_tokens": np.zeros(shape, np.int64), **arrays})


def loss_of(name: str, lp: np.ndarray, data: Sequence[Datum], **settings: float) -> LossValue:
    inputs, complete = gather_inputs(name, data), loss_settings(name, dict(settings))
    return evaluate(name, torch.from_numpy(lp.astype(np.float32)), inputs, complete, want_gradient=True)


def central_differences(formula: Formula, lp: np.ndarray) -> np.ndarray:
    gradient = np.zeros_like(lp)
    for place in np.ndindex(lp.shape):
        up, down = lp.copy(), lp.copy()
        up[place] += STEP
        down[place] -= STEP
        gradient[place] = (formula(up, lp) - formula(down, lp)) / (2 * STEP)
    return gradient


def assert_loss(name: str, formula: Formula, lp: np.ndarray, data: Sequence[Datum], **settings: float) -> LossValue:
    lp = lp.astype(np.float32).astype(np.float64)  # what the engine sees, exactly
    found = loss_of(name, lp, data, **settings)
    np.testing.assert_allclose(found.value, formula(lp, lp), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.dlogprobs.double().numpy(), central_differences(formula, lp), rtol=2e-5, atol=2e-5)
    return found


def ratios(lp: np.ndarray, sampled: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(lp - sampled))


def policy_data(rng: np.random.Generator, lp: np.ndarray, spread: float, lengths: Sequence[int]) -> list[Datum]:
    """Data sampled by a policy `spread` nats away, with advantages of both signs and some zeros."""
    sampled = lp + rng.normal(0, spread, lp.shape)
    advantages = rng.normal(size=lp.shape) * (rng.random(lp.shape) < 0.8)
    starts = np.cumsum([0, *lengths])
    return [datum(logprobs=sampled[a:b], advantages=advantages[a:b]) for a, b in pairwise(starts)]


def joined(data: Sequence[Datum], name: str) -> np.ndarray:
    return np.concatenate([d.loss_inputs[name] for d in data]).astype(np.float64)
