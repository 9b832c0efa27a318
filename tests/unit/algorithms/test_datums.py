"""Sequences to training data, against the positions written out by hand and against the cookbook's own functions."""

import numpy as np
import pytest
import tinker

from hone.algorithms.datums import floats, policy_datums, shift, supervised_datum, truncate, unshifted
from hone.algorithms.types import SampledTokens, Trajectory, Transition
from hone.errors import UserError

IMAGE = tinker.types.ImageChunk(data=b"\xff\xd8\xff", format="jpeg", expected_tokens=3)


def text(*tokens: int) -> tinker.ModelInput:
    return tinker.ModelInput.from_ints(list(tokens))


def with_image(*after: int) -> tinker.ModelInput:
    return tinker.ModelInput(
        chunks=[tinker.EncodedTextChunk(tokens=[1, 2]), IMAGE, tinker.EncodedTextChunk(tokens=list(after))]
    )


def said(*tokens: int, sequence_id: str | None = None) -> SampledTokens:
    return SampledTokens(list(tokens), [-float(token) for token in tokens], "stop", sequence_id)


def trajectory(*turns: tuple[tinker.ModelInput, SampledTokens], masked: int | None = None) -> Trajectory:
    transitions = [
        Transition(observation, action, 0.0, {"parse_error_masked": 1.0} if number == masked else {})
        for number, (observation, action) in enumerate(turns)
    ]
    return Trajectory(transitions, text())


def test_position_t_predicts_token_t_plus_one() -> None:
    model_input, targets_T = shift(text(5, 6, 7))
    assert model_input.to_ints() == [5, 6]
    assert targets_T.tolist() == [6, 7]


def test_an_image_is_as_many_positions_as_it_has_tokens() -> None:
    model_input, targets_T = shift(with_image(8, 9))
    assert model_input.length == 6
    assert targets_T.tolist() == [2, 0, 0, 0, 8, 9]


@pytest.mark.parametrize("sequence", [text(), text(1), tinker.ModelInput(chunks=[IMAGE])])
def test_nothing_to_learn_from_is_refused(sequence: tinker.ModelInput) -> None:
    with pytest.raises(UserError, match="sequence to learn from"):
        shift(sequence)


def test_weights_belong_to_the_tokens_they_were_given_for() -> None:
    datum = supervised_datum(text(5, 6, 7, 8), [0, 0, 1, 1], mean=False)
    assert datum.loss_fn_inputs["target_tokens"].data == [6, 7, 8]
    assert datum.loss_fn_inputs["weights"].data == [0, 1, 1]


def test_mean_weights_sum_to_one_and_no_weight_stays_zero() -> None:
    assert supervised_datum(text(5, 6, 7, 8), [1, 0, 1, 1]).loss_fn_inputs["weights"].data == [0, 0.5, 0.5]
    assert supervised_datum(text(5, 6), [0, 0]).loss_fn_inputs["weights"].data == [0]


def test_as_many_weights_as_tokens() -> None:
    with pytest.raises(UserError, match="3 tokens need as many weights; there are 2"):
        supervised_datum(text(1, 2, 3), [0, 1])


def test_a_long_example_loses_its_end() -> None:
    datum = supervised_datum(text(5, 6, 7, 8), [0, 1, 1, 1], max_length=3)
    assert datum.loss_fn_inputs["target_tokens"].data == [6, 7]
    assert truncate(with_image(8, 9), 4).to_ints() == [1, 2]
    assert truncate(with_image(8, 9), 6).length == 6


def test_an_example_that_loses_all_that_it_teaches_is_refused() -> None:
    with pytest.raises(UserError, match="4 tokens has nothing to learn in its first 2; raise `max_length`"):
        supervised_datum(text(5, 6, 7, 8), [0, 0, 1, 1], max_length=2)
    assert supervised_datum(text(5, 6, 7), [0, 0, 0], max_length=2).loss_fn_inputs["weights"].data == [0]


def test_turns_that_extend_each_other_are_one_datum() -> None:
    (merged,) = policy_datums(trajectory((text(1, 2), said(3, 4)), (text(1, 2, 3, 4, 5), said(6))), advantage=0.5)
    assert merged.datum.model_input.to_ints() == [1, 2, 3, 4, 5]
    assert merged.datum.loss_fn_inputs["target_tokens"].data == [2, 3, 4, 5, 6]
    assert merged.sampled_logprobs_T.tolist() == [0, -3, -4, 0, -6]
    assert merged.advantages_T.tolist() == [0, 0.5, 0.5, 0, 0.5]
    assert merged.mask_T.tolist() == [0, 1, 1, 0, 1]
    assert unshifted(merged.datum).to_ints() == [1, 2, 3, 4, 5, 6]


def test_a_rewritten_history_begins_another_datum() -> None:
    turns = ((text(1, 2), said(3)), (text(1, 9), said(4)))
    assert [unshifted(item.datum).to_ints() for item in policy_datums(trajectory(*turns), 1.0)] == [
        [1, 2, 3],
        [1, 9, 4],
    ]


def test_a_masked_turn_is_context_only() -> None:
    turns = ((text(1), said(2)), (text(1, 2, 3), said(4)))
    (merged,) = policy_datums(trajectory(*turns, masked=0), 1.0)
    assert merged.mask_T.tolist() == [0, 0, 1]
    assert merged.advantages_T.tolist() == [0, 0, 1]


def test_an_episode_that_never_began_teaches_nothing() -> None:
    assert policy_datums(trajectory((text(), said())), 1.0) == []


def test_new_advantages_replace_the_old() -> None:
    (datum,) = policy_datums(trajectory((text(1), said(2, 3))), 1.0)
    assert datum.with_advantages(np.array([7, 8], dtype=np.float32)).advantages_T.tolist() == [7, 8]
    assert datum.advantages_T.tolist() == [1, 1]


def cookbook_datums(turns: list[tuple[tinker.ModelInput, SampledTokens]], advantage: float) -> list[tinker.Datum]:
    completers = pytest.importorskip("tinker_cookbook.completers")
    from tinker_cookbook.rl import types
    from tinker_cookbook.rl.data_processing import trajectory_to_data

    def action(sampled: SampledTokens) -> object:
        return completers.TokensWithLogprobs(
            tokens=sampled.tokens,
            maybe_logprobs=sampled.logprobs,
            stop_reason=sampled.stop_reason,
            sequence_id=sampled.sequence_id,
        )

    transitions = [
        types.Transition(ob=observation, ac=action(sampled), reward=0.0, episode_done=False)
        for observation, sampled in turns
    ]
    return list(trajectory_to_data(types.Trajectory(transitions=transitions, final_ob=text()), advantage))


@pytest.mark.parametrize("seed", range(20))
def test_random_trajectories_give_the_cookbooks_datums(seed: int) -> None:
    draw = np.random.default_rng(seed)
    turns: list[tuple[tinker.ModelInput, SampledTokens]] = []
    seen: list[int] = []
    for turn in range(int(draw.integers(1, 6))):
        if draw.random() < 0.3:
            seen = []  # the history is rewritten
        seen = seen + [int(token) for token in draw.integers(1, 50, draw.integers(1, 5))]
        answer = said(*(int(token) for token in draw.integers(1, 50, draw.integers(1, 4))), sequence_id=f"s{turn}")
        turns.append((text(*seen), answer))
        seen = seen + answer.tokens
    ours, theirs = policy_datums(trajectory(*turns), 0.25, provenance=True), cookbook_datums(turns, 0.25)
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs, strict=True):
        assert our.datum.model_input == their.model_input
        for key in ("target_tokens", "logprobs", "advantages"):
            assert our.datum.loss_fn_inputs[key].data == their.loss_fn_inputs[key].data
        assert our.mask_T.tolist() == floats(their.loss_fn_inputs["mask"]).tolist()
        assert our.datum.model_input_spans == their.model_input_spans
        assert our.datum.loss_fn_input_spans == their.loss_fn_input_spans
