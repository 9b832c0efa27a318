"""The clipped objective, in every region of ratio and advantage."""

import numpy as np
import pytest

from tests.unit.engine.losses.closed_form import assert_loss, datum, joined, loss_of, policy_data, ratios


@pytest.mark.parametrize(
    "settings", [{}, {"clip_low_threshold": 0.5, "clip_high_threshold": 3.0}, {"clip_high_threshold": 1.01}]
)
def test_value_and_gradient(settings: dict[str, float]) -> None:
    rng = np.random.default_rng(3)
    lp = -rng.exponential(2.0, 60)
    data = policy_data(rng, lp, 0.4, (20, 1, 39))
    q, a = joined(data, "logprobs"), joined(data, "advantages")
    low, high = settings.get("clip_low_threshold", 0.8), settings.get("clip_high_threshold", 1.2)

    def formula(x: np.ndarray, now: np.ndarray) -> float:
        r = ratios(x, q)
        return float(-np.minimum(r * a, np.clip(r, low, high) * a).sum())

    assert_loss("ppo", formula, lp, data, **settings)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (1.1, 1.0, -1.1, -1.1),  # inside: as without clipping
        (0.9, -1.0, 0.9, 0.9),
        (1.5, 1.0, -1.2, 0.0),  # likelier by enough already
        (0.5, 1.0, -0.5, -0.5),  # a good token that became unlikely is still pulled up
        (0.5, -1.0, 0.8, 0.0),  # unlikely enough already
        (1.5, -1.0, 1.5, 1.5),  # a bad token that became likely is still pushed down
        (1.5, 0.0, 0.0, 0.0),
    ],
)
def test_every_region(ratio: float, advantage: float, loss: float, gradient: float) -> None:
    found = loss_of("ppo", np.array([-1.0]), [datum(logprobs=[-1.0 - np.log(ratio)], advantages=[advantage])])
    assert found.value == pytest.approx(loss, abs=1e-6)
    assert float(found.dlogprobs[0]) == pytest.approx(gradient, abs=1e-6)
