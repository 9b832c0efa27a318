"""Direct reward optimisation: a quadratic pull towards the sampling policy."""

import numpy as np
import pytest

from tests.unit.engine.losses.closed_form import assert_loss, joined, policy_data


@pytest.mark.parametrize(("settings", "beta"), [({}, 0.05), ({"beta": 0.0}, 0.0), ({"beta": 2.5}, 2.5)])
def test_value_and_gradient(settings: dict[str, float], beta: float) -> None:
    rng = np.random.default_rng(5)
    lp = -rng.exponential(2.0, 15)
    data = policy_data(rng, lp, 0.7, (5, 10))
    q, a = joined(data, "logprobs"), joined(data, "advantages")
    found = assert_loss("dro", lambda x, now: float(-(x * a - 0.5 * beta * (x - q) ** 2).sum()), lp, data, **settings)
    np.testing.assert_allclose(found.dlogprobs.numpy(), -a + beta * (lp - q), atol=1e-5)
