"""The table of losses, their settings, and the gathering of their inputs."""

import numpy as np
import pytest
import torch

from hone.engine.batch import cut
from hone.engine.contract import ForwardBackward
from hone.engine.losses import LOSSES, evaluate
from hone.engine.losses.inputs import gather_inputs
from hone.errors import UserError
from hone.protocol import losses as protocol
from tests.unit.engine.losses.closed_form import datum
from tests.unit.engine.material import random_datum


def test_every_loss_of_the_protocol_has_a_formula() -> None:
    assert set(LOSSES) == set(protocol.LOSSES)


def test_positions_remember_their_datum() -> None:
    data = [datum(weights=[1.0, 2.0]), datum(weights=[3.0]), datum(weights=[4.0, 5.0, 6.0])]
    inputs = gather_inputs("cross_entropy", data)
    assert inputs["weights"].tolist() == [1, 2, 3, 4, 5, 6]
    assert inputs.datum_T.tolist() == [0, 0, 1, 2, 2, 2]
    assert inputs.data == 3


def test_inputs_of_any_number_type_become_float() -> None:
    whole = datum(weights=[1.0, 0.0])
    whole.loss_inputs["weights"] = np.array([1, 0], np.int64)
    assert gather_inputs("cross_entropy", [whole])["weights"].dtype == torch.float32


def test_inputs_that_a_loss_does_not_need_are_ignored() -> None:
    given = datum(weights=[1.0], mask=[1.0])
    assert set(gather_inputs("cross_entropy", [given]).values) == {"weights"}


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_without_a_gradient_the_value_is_the_same(name: str) -> None:
    data = [random_datum(np.random.default_rng(1), 9, name)]
    lp, inputs = torch.randn(9) - 5, gather_inputs(name, data)
    settings = protocol.loss_settings(name, {})
    with_gradient, without = (evaluate(name, lp, inputs, settings, want) for want in (True, False))
    assert with_gradient.value == without.value
    assert with_gradient.dlogprobs.any()
    assert not without.dlogprobs.any()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_loss_leaves_the_log_probabilities_alone(name: str) -> None:
    data = [random_datum(np.random.default_rng(1), 9, name)]
    lp = torch.randn(9) - 5
    before = lp.clone()
    evaluate(name, lp, gather_inputs(name, data), protocol.loss_settings(name, {}), want_gradient=True)
    assert torch.equal(lp, before)
    assert not lp.requires_grad


def test_settings_travel_with_the_pieces_complete() -> None:
    data = (random_datum(np.random.default_rng(1), 4, "ppo"),)
    (piece,) = cut(ForwardBackward("a", data, "ppo", {"clip_high_threshold": 1.5}), 100)
    assert piece.settings == {"clip_low_threshold": 0.8, "clip_high_threshold": 1.5}


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_an_unknown_setting_is_refused_by_name(name: str) -> None:
    data = (random_datum(np.random.default_rng(1), 4, name),)
    with pytest.raises(UserError, match=r"'clip_medium'.*unknown"):
        cut(ForwardBackward("a", data, name, {"clip_medium": 1.0}), 100)
