"""Importance-weighted policy gradient."""

import numpy as np
import pytest

from tests.unit.engine.losses.closed_form import assert_loss, datum, joined, loss_of, policy_data, ratios


@pytest.mark.parametrize("spread", [0.0, 0.3, 2.0])
def test_value_and_gradient(spread: float) -> None:
    rng = np.random.default_rng(2)
    lp = -rng.exponential(2.0, 12)
    data = policy_data(rng, lp, spread, (5, 1, 6))
    q, a = joined(data, "logprobs"), joined(data, "advantages")
    assert_loss("importance_sampling", lambda x, now: float(-(ratios(x, q) * a).sum()), lp, data)


def test_by_hand() -> None:
    """r = 2, A = 3: the loss is -6, and so is its gradient, because dr/dlp = r."""
    found = loss_of("importance_sampling", np.log([0.5]), [datum(logprobs=np.log([0.25]), advantages=[3.0])])
    assert found.value == pytest.approx(-6.0, rel=1e-6)
    assert float(found.dlogprobs[0]) == pytest.approx(-6.0, rel=1e-6)
