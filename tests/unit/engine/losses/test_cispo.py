"""Clipped weights that keep every token's gradient."""

import numpy as np
import pytest

from tests.unit.engine.losses.closed_form import assert_loss, datum, joined, loss_of, policy_data, ratios


@pytest.mark.parametrize("settings", [{}, {"clip_low_threshold": 0.7, "clip_high_threshold": 1.3}])
def test_value_and_gradient(settings: dict[str, float]) -> None:
    rng = np.random.default_rng(4)
    lp = -rng.exponential(2.0, 40)
    data = policy_data(rng, lp, 1.0, (39, 1))
    q, a = joined(data, "logprobs"), joined(data, "advantages")
    low, high = settings.get("clip_low_threshold", 0.0), settings.get("clip_high_threshold", 4.0)

    def formula(x: np.ndarray, now: np.ndarray) -> float:
        return float(-(np.clip(ratios(now, q), low, high) * x * a).sum())

    assert_loss("cispo", formula, lp, data, **settings)


@pytest.mark.parametrize(
    ("ratio", "advantage", "gradient"),
    [(1.0, 1.0, -1.0), (9.0, 1.0, -4.0), (9.0, -1.0, 4.0), (0.01, 1.0, -0.5), (0.01, -1.0, 0.5), (2.0, 0.0, 0.0)],
)
def test_clipped_tokens_keep_a_gradient(ratio: float, advantage: float, gradient: float) -> None:
    data = [datum(logprobs=[-1.0 - np.log(ratio)], advantages=[advantage])]
    found = loss_of("cispo", np.array([-1.0]), data, clip_low_threshold=0.5)
    assert float(found.dlogprobs[0]) == pytest.approx(gradient, abs=1e-6)
    assert found.value == pytest.approx(-gradient, abs=1e-6)  # lp = -1
