"""Each loss against its formula written out in plain float64 arithmetic, and its gradient against differences."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from hone.algorithms.preference import losses
from hone.algorithms.preference.losses import PairScores


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


CHOSEN, REJECTED = [-4.0, -9.0, -2.5], [-6.0, -7.0, -2.5]
REFERENCE_CHOSEN, REFERENCE_REJECTED = [-5.0, -8.0, -2.5], [-5.5, -8.5, -2.5]
CHOSEN_LENGTHS, REJECTED_LENGTHS = [3.0, 5.0, 2.0], [4.0, 2.0, 2.0]


def tensor(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def scores(chosen: Tensor, rejected: Tensor) -> PairScores:
    return PairScores(
        chosen,
        rejected,
        tensor(CHOSEN_LENGTHS),
        tensor(REJECTED_LENGTHS),
        tensor(REFERENCE_CHOSEN),
        tensor(REFERENCE_REJECTED),
    )


def per_pair(formula: Callable[[float, float, float, float, float, float], float]) -> float:
    rows = zip(
        CHOSEN,
        REJECTED,
        REFERENCE_CHOSEN,
        REFERENCE_REJECTED,
        CHOSEN_LENGTHS,
        REJECTED_LENGTHS,
        strict=True,
    )
    return float(np.mean([formula(*row) for row in rows]))


def odds(mean: float) -> float:
    return mean - math.log(1 - math.exp(mean))


FORMULAS: dict[str, tuple[Callable[[PairScores], tuple[Tensor, dict[str, float]]], float]] = {
    "dpo": (
        lambda s: losses.dpo(s, 0.3),
        per_pair(lambda c, r, rc, rr, lc, lr: -log_sigmoid(0.3 * ((c - rc) - (r - rr)))),
    ),
    "conservative dpo": (
        lambda s: losses.dpo(s, 0.3, 0.1),
        per_pair(
            lambda c, r, rc, rr, lc, lr: (
                -0.9 * log_sigmoid(0.3 * ((c - rc) - (r - rr))) - 0.1 * log_sigmoid(-0.3 * ((c - rc) - (r - rr)))
            )
        ),
    ),
    "ipo": (
        lambda s: losses.ipo(s, 0.3),
        per_pair(lambda c, r, rc, rr, lc, lr: ((c - rc) - (r - rr) - 1 / 0.6) ** 2),
    ),
    "simpo": (
        lambda s: losses.simpo(s, 2.0, 0.5),
        per_pair(lambda c, r, rc, rr, lc, lr: -log_sigmoid(2.0 * c / lc - 2.0 * r / lr - 0.5)),
    ),
    "orpo": (
        lambda s: losses.orpo(s, 0.2),
        per_pair(lambda c, r, rc, rr, lc, lr: -c / lc - 0.2 * log_sigmoid(odds(c / lc) - odds(r / lr))),
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_the_value_is_the_formulas(name: str) -> None:
    loss_of, expected = FORMULAS[name]
    loss, _ = loss_of(scores(tensor(CHOSEN), tensor(REJECTED)))
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", FORMULAS)
def test_the_gradient_is_the_slope(name: str) -> None:
    loss_of, _ = FORMULAS[name]
    assert torch.autograd.gradcheck(
        lambda c, r: loss_of(scores(c, r))[0],
        (tensor(CHOSEN).requires_grad_(), tensor(REJECTED).requires_grad_()),
    )


def test_dpo_begins_at_log_two_and_its_metrics_are_those_of_the_implicit_rewards() -> None:
    start, metrics = losses.dpo(scores(tensor(REFERENCE_CHOSEN), tensor(REFERENCE_REJECTED)), 0.3)
    assert start.item() == pytest.approx(math.log(2))
    assert metrics == {"accuracy": 0, "margin": 0, "chosen_reward": 0, "rejected_reward": 0}
    _, metrics = losses.dpo(scores(tensor(CHOSEN), tensor(REJECTED)), 0.3)
    assert metrics["accuracy"] == pytest.approx(1 / 3)
    assert metrics["chosen_reward"] == pytest.approx(0.0)
    assert metrics["margin"] == pytest.approx(0.3 * (1.5 - 2.5 + 0.0) / 3)


def test_dpo_is_the_cookbooks() -> None:
    cookbook = pytest.importorskip("tinker_cookbook.preference.train_dpo")
    lists = [list(tensor(values).float()) for values in (CHOSEN, REJECTED, REFERENCE_CHOSEN, REFERENCE_REJECTED)]
    expected, expected_metrics = cookbook.compute_dpo_loss(*lists, 0.3)
    loss, metrics = losses.dpo(scores(tensor(CHOSEN), tensor(REJECTED)), 0.3)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for key, value in metrics.items():
        assert value == pytest.approx(expected_metrics[key], abs=1e-6)


def test_odds_near_certainty_stay_finite() -> None:
    certain = PairScores(tensor([0.0]), tensor([-3.0]), tensor([1.0]), tensor([1.0]))
    assert math.isfinite(losses.orpo(certain, 0.1)[0].item())


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_kto_weighs_wanted_and_unwanted_answers_against_the_baseline() -> None:
    ratios, desirable = tensor([1.0, -0.5, 2.0]), torch.tensor([True, False, False])
    loss, metrics = losses.kto(ratios, desirable, tensor([0.4]).mean(), 0.5, 1.0, 2.0)
    expected = (1 - sigmoid(0.5 * 0.6)) + 2 * (1 - sigmoid(0.5 * 0.9)) + 2 * (1 - sigmoid(0.5 * -1.6))
    assert loss.item() == pytest.approx(expected / 3)
    assert metrics == pytest.approx({"kl": 0.4, "chosen_reward": 0.5, "rejected_reward": 0.375})


def test_ktos_baseline_is_not_below_zero_and_takes_no_gradient() -> None:
    drift = tensor([-3.0]).requires_grad_()
    ratios = tensor([1.0]).requires_grad_()
    loss, _ = losses.kto(ratios, torch.tensor([True]), drift.mean(), 1.0)
    loss.backward()
    assert loss.item() == pytest.approx(1 - sigmoid(1.0))
    assert drift.grad is None
    assert ratios.grad is not None
    assert ratios.grad.item() == pytest.approx(-sigmoid(1.0) * (1 - sigmoid(1.0)))


def test_bradley_terry_is_the_likelihood_of_the_labels() -> None:
    loss, metrics = losses.bradley_terry(tensor([2.0, 0.0]), tensor([1.0, 1.0]))
    assert loss.item() == pytest.approx(-(log_sigmoid(1.0) + log_sigmoid(-1.0)) / 2)
    assert metrics["accuracy"] == 0.5
