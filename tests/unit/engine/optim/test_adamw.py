"""AdamW against torch.optim.AdamW, step by step."""

import math
from dataclasses import replace

import pytest
import torch

from hone.engine.lora.state import AdapterState
from hone.engine.models.load import LoadedModel
from hone.engine.optim.adamw import adamw_step
from hone.errors import UserError
from hone.protocol.types import AdamParams, LoraConfig
from tests.unit.engine.material import relative_error, trained_adapter


@pytest.fixture
def state(qwen3: LoadedModel) -> AdapterState:
    return trained_adapter(qwen3.config, LoraConfig(2, 1))


SCHEDULES = {
    "constant": [AdamParams()] * 30,
    "everything changes": [
        AdamParams(
            learning_rate=1e-2 * 0.9**i,
            beta1=0.9 - 0.02 * (i % 7),
            beta2=0.999 - 0.01 * (i % 5),
            eps=10.0 ** -(4 + i % 9),
            weight_decay=0.1 * (i % 3),
            grad_clip_norm=(0.0, 0.5, 1e9)[i % 3],
        )
        for i in range(30)
    ],
    "no momentum": [AdamParams(learning_rate=1e-3, beta1=0.0, beta2=0.0)] * 5,
    "decay": [AdamParams(learning_rate=1e-2, weight_decay=0.3)] * 20,
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_equal_to_the_frameworks_adamw(schedule: str, state: AdapterState) -> None:
    theirs = torch.nn.Parameter(state.weights.double())
    reference = torch.optim.AdamW([theirs])
    start = state.weights.clone()
    for i, params in enumerate(SCHEDULES[schedule]):
        gradient = torch.randn(state.weights.shape) * 10.0 ** (i % 5 - 3)
        gradient[::7] = 0.0
        state.set_gradient(gradient.clone())
        metrics = adamw_step(state, params)

        theirs.grad = gradient.double()
        if params.grad_clip_norm:
            # the framework divides by norm + 1e-6; the documented formula does not
            theirs.grad *= min(1.0, params.grad_clip_norm / float(theirs.grad.norm()))
        reference.param_groups[0].update(
            lr=params.learning_rate,
            betas=(params.beta1, params.beta2),
            eps=params.eps,
            weight_decay=params.weight_decay,
        )
        reference.step()
        assert metrics["optimizer/steps"] == state.steps == i + 1
        assert math.isclose(metrics["optimizer/grad_norm"], float(gradient.double().norm()), rel_tol=1e-5)
    moved = state.weights.double() - start.double()
    assert relative_error(moved, theirs.detach() - start.double()) < 1e-4
    torch.testing.assert_close(state.weights.double(), theirs.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("limit", [1e-3, 1.0, 30.0])
def test_clipping_is_that_of_the_framework(limit: float, state: AdapterState) -> None:
    """With beta1 = 0 and a huge eps a step is proportional to the clipped gradient, so its size shows."""
    gradient, start = torch.randn(state.weights.shape), state.weights.clone()
    theirs = torch.nn.Parameter(start.clone())
    theirs.grad = gradient.clone()
    norm = torch.nn.utils.clip_grad_norm_([theirs], limit)
    assert norm > limit
    state.set_gradient(gradient.clone())
    metrics = adamw_step(state, AdamParams(learning_rate=1e6, beta1=0.0, eps=1e6, grad_clip_norm=limit))
    assert math.isclose(metrics["optimizer/grad_norm"], float(norm), rel_tol=1e-5)
    # start + step is rounded to the precision of the weights, so the bound is that of their difference
    assert relative_error(start - state.weights, theirs.grad) < 2e-3 if limit < 0.1 else 2e-5


def test_a_norm_below_the_limit_is_not_raised_to_it(state: AdapterState) -> None:
    gradient, params = torch.randn(state.weights.shape) * 1e-3, AdamParams(beta1=0.0, eps=1.0)
    start = state.weights.clone()
    moved = []
    for limit in (0.0, 1e3):
        state.weights.copy_(start)
        state.moment1.zero_()
        state.moment2.zero_()
        state.steps = 0
        state.set_gradient(gradient.clone())
        adamw_step(state, replace(params, grad_clip_norm=limit))
        moved.append(state.weights.clone())
    assert torch.equal(moved[0], moved[1])


def test_the_default_eps_lets_the_smallest_gradients_count(state: AdapterState) -> None:
    """On its first step Adam moves every weight by the learning rate, whatever the size of its gradient."""
    sizes = 10.0 ** -torch.arange(0, 10).float()
    gradient = sizes.repeat(state.layout.size // len(sizes) + 1)[: state.layout.size]
    start = state.weights.clone()
    state.set_gradient(gradient)
    adamw_step(state, AdamParams(learning_rate=0.5))
    torch.testing.assert_close(start - state.weights, torch.full_like(start, 0.5), rtol=2e-2, atol=0)


def test_without_a_gradient_nothing_happens(state: AdapterState) -> None:
    state.set_gradient(torch.randn(state.weights.shape))
    adamw_step(state, AdamParams())
    before = [t.clone() for t in (state.weights, state.moment1, state.moment2)]
    assert adamw_step(state, AdamParams(learning_rate=1.0, weight_decay=1.0)) == {"optimizer/skipped": 1.0}
    assert state.steps == 1
    for old, new in zip(before, (state.weights, state.moment1, state.moment2), strict=True):
        assert torch.equal(old, new)


def test_a_step_spends_the_gradient(state: AdapterState) -> None:
    state.set_gradient(torch.randn(state.weights.shape))
    adamw_step(state, AdamParams())
    assert state.gradient is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_refused(bad: float, state: AdapterState) -> None:
    before, gradient = state.weights.clone(), torch.randn(state.weights.shape)
    gradient[5] = bad
    state.set_gradient(gradient)
    with pytest.raises(UserError, match="not finite"):
        adamw_step(state, AdamParams())
    assert torch.equal(state.weights, before)
    assert not state.moment1.any()
    assert not state.moment2.any()
    assert state.steps == 0
    # what was bad is gone, so the next pass and step work
    assert adamw_step(state, AdamParams()) == {"optimizer/skipped": 1.0}


@pytest.mark.parametrize("name", ["learning_rate", "beta1", "beta2", "eps", "weight_decay", "grad_clip_norm"])
@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_a_step_that_is_not_defined_is_refused_by_name(name: str, bad: float, state: AdapterState) -> None:
    gradient = torch.randn(state.weights.shape)
    state.set_gradient(gradient.clone())
    with pytest.raises(UserError, match=name):
        adamw_step(state, replace(AdamParams(), **{name: bad}))
    assert state.gradient is not None
    assert torch.equal(state.gradient, gradient)


@pytest.mark.parametrize("name", ["beta1", "beta2"])
def test_a_beta_of_one_is_refused(name: str, state: AdapterState) -> None:
    with pytest.raises(UserError, match=f"{name} must be below 1"):
        adamw_step(state, replace(AdamParams(), **{name: 1.0}))
