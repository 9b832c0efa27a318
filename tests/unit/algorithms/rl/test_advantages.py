"""Each estimator against its formula on numbers worked out by hand, and against the cookbook where it has the same."""

import numpy as np
import pytest

from hone.algorithms.rl.advantages import ESTIMATORS, advantages, centred, group_normalised, maxrl, rloo, training_data
from hone.errors import UserError
from tests.support.cookbook_types import their_group
from tests.support.rl_material import group

REWARDS = np.array([1.0, 0.0, 0.0, 3.0])


def test_centring_takes_the_mean_away() -> None:
    assert centred(REWARDS).tolist() == [0, -1, -1, 2]
    assert ESTIMATORS["dr_grpo"] is centred


def test_rloo_compares_with_the_mean_of_the_others() -> None:
    others = [np.delete(REWARDS, index).mean() for index in range(4)]
    np.testing.assert_allclose(rloo(REWARDS), REWARDS - others)
    np.testing.assert_allclose(rloo(REWARDS), 4 / 3 * centred(REWARDS))
    assert rloo(np.array([5.0])).tolist() == [0]


def test_group_normalised_divides_by_the_standard_deviation() -> None:
    deviation = np.sqrt(((0) ** 2 + 1 + 1 + 4) / 3)
    np.testing.assert_allclose(group_normalised(REWARDS), np.array([0, -1, -1, 2]) / deviation, rtol=1e-5)
    assert group_normalised(np.array([2.0, 2.0])).tolist() == [0, 0]


def test_maxrl_divides_by_the_mean() -> None:
    np.testing.assert_allclose(maxrl(np.array([1.0, 0, 0, 0])), [3, -1, -1, -1])
    assert maxrl(np.zeros(3)).tolist() == [0, 0, 0]
    with pytest.raises(UserError, match="0 or more"):
        maxrl(np.array([1.0, -1.0]))


def test_maxrl_estimates_the_gradient_of_the_truncated_log_likelihood() -> None:
    """With p the pass rate and G samples: E[sum A_i score_i] / G = p' sum over k < G - 1 of (1 - p)^k, worked out
    exactly for a coin whose only parameter is the logit of p."""
    p, size = 0.3, 5
    expected = p * (1 - p) * sum((1 - p) ** k for k in range(size - 1))
    found = 0.0
    for outcome in np.ndindex(*(2,) * size):
        rewards = np.array(outcome, dtype=np.float64)
        probability = p ** rewards.sum() * (1 - p) ** (size - rewards.sum())
        found += probability * float((maxrl(rewards) * (rewards - p)).sum()) / size
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_centring_is_the_cookbooks(seed: int) -> None:
    processing = pytest.importorskip("tinker_cookbook.rl.data_processing")
    rewards = np.random.default_rng(seed).standard_normal(6)
    ours = advantages(group(*rewards), "centred")
    (theirs,) = processing.compute_advantages([their_group(group(*rewards))])
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-6)


def test_data_of_groups_are_the_cookbooks() -> None:
    processing = pytest.importorskip("tinker_cookbook.rl.data_processing")
    groups = [group(1, 0, 0), group(1, 1), group(0.5, 0.25, 2)]
    ours = training_data(groups, "centred", remove_constant=True, provenance=True)
    kept = processing.remove_constant_reward_groups([their_group(g) for g in groups])
    theirs, _ = processing.assemble_training_data(kept, processing.compute_advantages(kept))
    assert len(ours) == len(theirs) == 6
    for our, their in zip(ours, theirs, strict=True):
        assert our.datum.model_input == their.model_input
        for key in ("target_tokens", "logprobs"):
            assert our.datum.loss_fn_inputs[key].data == their.loss_fn_inputs[key].data
        np.testing.assert_allclose(our.advantages_T, their.loss_fn_inputs["advantages"].to_numpy(), atol=1e-6)
        assert our.mask_T.tolist() == their.loss_fn_inputs["mask"].data
        assert our.datum.loss_fn_input_spans == their.loss_fn_input_spans


def test_groups_without_a_difference_and_lost_groups_teach_nothing() -> None:
    groups = [group(1, 1, tags=("easy",)), group(), group(0, 1, tags=("hard",))]
    assert len(training_data(groups, "centred", remove_constant=True)) == 2
    kept = training_data(groups, "centred", remove_constant=False)
    assert len(kept) == 4
    assert not kept[0].advantages_T.any()


def test_an_episode_in_which_nothing_is_learned_costs_nothing() -> None:
    masked = group(1, 0)
    masked.trajectories_G[0].transitions[0].metrics["parse_error_masked"] = 1.0
    (left,) = training_data([masked], "centred", remove_constant=True)
    assert left.advantages_T.tolist() == [0, -0.5, -0.5]
