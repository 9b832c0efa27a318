"""One ratio per sequence: several data, masks, and clipping on both sides."""

import numpy as np
import pytest

from hone.protocol.types import Datum
from tests.unit.engine.losses.closed_form import assert_loss, datum, joined, loss_of

LENGTHS = (6, 1, 9, 4)


def material(spread: float) -> tuple[np.ndarray, list[Datum], np.ndarray]:
    rng = np.random.default_rng(6)
    lp = -rng.exponential(2.0, sum(LENGTHS))
    owner = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
    data = []
    for d in range(len(LENGTHS)):
        own = lp[owner == d]
        # a shift per sequence, so that whole sequences leave the clipping range on either side
        data.append(
            datum(
                logprobs=own + rng.normal(0, spread) + rng.normal(0, 0.01, own.shape),
                advantages=rng.normal(size=own.shape),
                sequence_ratio_mask=(rng.random(own.shape) < 0.6) * rng.choice([1.0, 2.0, -1.0]),
            )
        )
    data[3].loss_inputs["sequence_ratio_mask"][:] = 0.0
    return lp, data, owner


def sequence_ratios(lp: np.ndarray, data: list[Datum], owner: np.ndarray) -> np.ndarray:
    q, mask = joined(data, "logprobs"), joined(data, "sequence_ratio_mask") != 0
    ratio = np.ones(len(data))
    for d in range(len(data)):
        chosen = mask & (owner == d)
        if chosen.any():
            ratio[d] = np.exp((lp[chosen] - q[chosen]).mean())
    return ratio


@pytest.mark.parametrize("spread", [0.0001, 0.05, 1.0])
@pytest.mark.parametrize("settings", [{}, {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2}])
def test_value_and_gradient(spread: float, settings: dict[str, float]) -> None:
    lp, data, owner = material(spread)
    a = joined(data, "advantages")
    low, high = settings.get("clip_low_threshold", 1 - 3e-4), settings.get("clip_high_threshold", 1 + 4e-4)

    def formula(x: np.ndarray, now: np.ndarray) -> float:
        s = sequence_ratios(now, data, owner)[owner] * np.exp(x - now)
        return float(-np.minimum(s * a, np.clip(s, low, high) * a).sum())

    assert_loss("gspo", formula, lp, data, **settings)


def test_a_datum_without_masked_positions_has_ratio_one() -> None:
    data = [datum(logprobs=[-5.0, -7.0], advantages=[2.0, 3.0], sequence_ratio_mask=[0.0, 0.0])]
    found = loss_of("gspo", np.array([-1.0, -1.0]), data)
    assert found.value == pytest.approx(-5.0, rel=1e-6)
    np.testing.assert_allclose(found.dlogprobs.numpy(), [-2.0, -3.0], rtol=1e-6)


def test_the_ratio_is_the_geometric_mean_over_masked_positions() -> None:
    data = [datum(logprobs=[-2.0, -4.0, -9.0], advantages=[1.0, 0.0, 0.0], sequence_ratio_mask=[1.0, 1.0, 0.0])]
    settings = {"clip_low_threshold": 0.0, "clip_high_threshold": 100.0}
    found = loss_of("gspo", np.array([-1.0, -1.0, -1.0]), data, **settings)
    assert found.value == pytest.approx(-np.exp((1.0 + 3.0) / 2), rel=1e-6)


@pytest.mark.parametrize(
    ("drift", "advantage", "gradient"),
    [(0.5, 1.0, 0.0), (-0.5, 1.0, -np.exp(-0.5)), (0.5, -1.0, np.exp(0.5)), (-0.5, -1.0, 0.0)],
)
def test_clipping_on_both_sides(drift: float, advantage: float, gradient: float) -> None:
    data = [datum(logprobs=[-1.0 - drift], advantages=[advantage], sequence_ratio_mask=[1.0])]
    found = loss_of("gspo", np.array([-1.0]), data)
    assert float(found.dlogprobs[0]) == pytest.approx(gradient, abs=1e-6)


def test_data_do_not_share_a_ratio() -> None:
    lp, data, _ = material(0.05)
    together = loss_of("gspo", lp, data)
    starts = np.cumsum([0, *LENGTHS])
    alone = [loss_of("gspo", lp[a:b], [d]) for a, b, d in zip(starts, starts[1:], data, strict=False)]
    np.testing.assert_array_equal(together.dlogprobs.numpy(), np.concatenate([x.dlogprobs.numpy() for x in alone]))
