"""The documented substitute: truncated weights, and an optional estimate of KL."""

import numpy as np
import pytest

from tests.unit.engine.losses.closed_form import assert_loss, datum, joined, loss_of, policy_data, ratios


@pytest.mark.parametrize(
    ("settings", "cap", "kl"),
    [({}, 2.0, 0.0), ({"kl_coeff": 0.3}, 2.0, 0.3), ({"ratio_cap": 1.0, "kl_coeff": 0.1}, 1.0, 0.1)],
)
def test_value_and_gradient(settings: dict[str, float], cap: float, kl: float) -> None:
    rng = np.random.default_rng(7)
    lp = -rng.exponential(2.0, 30)
    data = policy_data(rng, lp, 1.0, (10, 20))
    q, a = joined(data, "logprobs"), joined(data, "advantages")

    def formula(x: np.ndarray, now: np.ndarray) -> float:
        estimate = np.exp(q - x) - 1 + x - q
        return float(-(np.minimum(ratios(now, q), cap) * x * a).sum() + kl * estimate[a != 0].sum())

    assert_loss("stable_reinforce", formula, lp, data, **settings)


@pytest.mark.parametrize(("ratio", "weight"), [(0.5, 0.5), (1.0, 1.0), (7.0, 2.0)])
def test_weights_are_cut_above_only(ratio: float, weight: float) -> None:
    data = [datum(logprobs=[-1.0 - np.log(ratio)], advantages=[1.0])]
    found = loss_of("stable_reinforce", np.array([-1.0]), data)
    assert float(found.dlogprobs[0]) == pytest.approx(-weight, rel=1e-5)


def test_positions_without_an_advantage_do_not_count_however_unlikely_they_are() -> None:
    """Prompt positions carry no sampled log-probability (0) and may be as unlikely as text gets."""
    data = [datum(logprobs=[0.0, -1.0], advantages=[0.0, 1.0])]
    found = loss_of("stable_reinforce", np.array([-120.0, -1.0]), data, kl_coeff=0.1)
    assert found.value == pytest.approx(1.0, rel=1e-6)
    np.testing.assert_allclose(found.dlogprobs.numpy(), [0.0, -1.0], atol=1e-6)
