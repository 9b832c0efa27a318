"""Our trajectories as those of `tinker-cookbook`, so that its functions can be run on the same material."""

from typing import Any

import pytest

from hone.algorithms.datums import PolicyDatum
from hone.algorithms.types import Trajectory, TrajectoryGroup


def their_group(ours: TrajectoryGroup) -> Any:
    completers = pytest.importorskip("tinker_cookbook.completers")
    from tinker_cookbook.rl import types

    def trajectory(one: Trajectory) -> Any:
        transitions = [
            types.Transition(
                ob=transition.observation,
                ac=completers.TokensWithLogprobs(
                    tokens=transition.action.tokens,
                    maybe_logprobs=transition.action.logprobs,
                    stop_reason=transition.action.stop_reason,
                    sequence_id=transition.action.sequence_id,
                    prompt_cache_hit_tokens=transition.action.prompt_cache_hit_tokens,
                ),
                reward=transition.reward,
                episode_done=transition is one.transitions[-1],
                metrics=transition.metrics,
            )
            for transition in one.transitions
        ]
        return types.Trajectory(transitions=transitions, final_ob=one.final_observation)

    return types.TrajectoryGroup([trajectory(t) for t in ours.trajectories_G], ours.group_rewards_G, ours.metrics_G)


def their_datum(ours: PolicyDatum) -> Any:
    import tinker

    inputs = {**ours.datum.loss_fn_inputs, "mask": tinker.TensorData.from_numpy(ours.mask_T)}
    return tinker.Datum(model_input=ours.datum.model_input, loss_fn_inputs=inputs)
