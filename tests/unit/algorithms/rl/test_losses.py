"""What each loss sends, in names and numbers that the service knows."""

import pytest
from pydantic import TypeAdapter, ValidationError

from hone.algorithms.rl.advantages import training_data
from hone.algorithms.rl.config import RlConfig
from hone.algorithms.rl.losses import Cispo, Dro, Gspo, ImportanceSampling, Loss, Ppo, StableReinforce
from hone.errors import UserError
from hone.protocol.losses import LOSSES, loss_settings
from tests.support.rl_material import group

ALL = [ImportanceSampling(), Ppo(), Cispo(), Dro(), Gspo(), StableReinforce()]


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: loss.type)
def test_a_server_takes_what_is_sent(loss: Loss) -> None:
    spec = LOSSES[loss.type]
    assert loss_settings(loss.type, loss.settings) == spec.config | loss.settings
    data = training_data([group(1, 0)], "centred", remove_constant=True, provenance=loss.needs_provenance)
    for datum in loss.prepare(data):
        assert set(datum.loss_fn_inputs) == set(spec.inputs)


def test_settings_are_the_published_ones() -> None:
    assert Ppo().settings == {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2}
    assert Cispo().settings == {"clip_low_threshold": 0.0, "clip_high_threshold": 4.0}
    assert StableReinforce().settings == {}
    assert StableReinforce(kl_coeff=0.1).settings == {"kl_coeff": 0.1}


def test_the_mask_of_gspo_covers_the_sampled_tokens() -> None:
    data = training_data([group(1, 0)], "centred", remove_constant=True)
    for datum, item in zip(Gspo().prepare(data), data, strict=True):
        assert datum.loss_fn_inputs["sequence_ratio_mask"].data == item.mask_T.tolist()
        assert datum.loss_fn_inputs["advantages"] == item.datum.loss_fn_inputs["advantages"]


def test_stable_reinforce_refuses_data_that_name_no_samples() -> None:
    nameless = training_data([group(1, 0)], "centred", remove_constant=True, provenance=False)
    with pytest.raises(UserError, match="'stable_reinforce' needs to know where each token was sampled"):
        StableReinforce().prepare(nameless)


def test_a_configuration_goes_through_json() -> None:
    config = RlConfig(model={"name": "m"}, loss={"type": "ppo", "clip_high_threshold": 1.3})
    assert config.loss == Ppo(clip_high_threshold=1.3)
    assert RlConfig.model_validate_json(config.model_dump_json()) == config
    with pytest.raises(ValidationError, match="epsilon"):
        TypeAdapter(Loss).validate_python({"type": "ppo", "epsilon": 0.2})
