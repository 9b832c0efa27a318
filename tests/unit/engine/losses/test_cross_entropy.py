"""Cross entropy, with one target per position and with several."""

import numpy as np
import pytest

from tests.unit.engine.losses.closed_form import assert_loss, datum, joined


@pytest.mark.parametrize("trailing", [(), (1,), (5,)], ids=["N", "N1", "NK"])
def test_value_and_gradient(trailing: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    data = [datum(weights=rng.normal(size=(n, *trailing))) for n in (4, 1, 7)]
    weights = joined(data, "weights")
    lp = -rng.exponential(2.0, weights.shape)
    found = assert_loss("cross_entropy", lambda x, now: float(-(weights * x).sum()), lp, data)
    np.testing.assert_array_equal(found.dlogprobs.numpy(), -weights.astype(np.float32))


def test_soft_targets_are_the_cross_entropy_of_two_distributions() -> None:
    teacher, student = np.array([[0.7, 0.2, 0.1]]), np.array([[0.5, 0.25, 0.25]])
    wanted = float(-(teacher * np.log(student)).sum())
    found = assert_loss(
        "cross_entropy", lambda x, now: float(-(teacher * x).sum()), np.log(student), [datum(weights=teacher)]
    )
    assert found.value == pytest.approx(wanted, rel=1e-6)
