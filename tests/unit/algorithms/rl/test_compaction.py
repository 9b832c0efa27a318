"""Long episodes in short contexts: what the model sees, and what is learned from it."""

import asyncio

from hone.algorithms.datums import policy_datums, unshifted
from hone.algorithms.rl.compaction import Compactor, DropMiddle, Summarise
from hone.algorithms.rl.policy import Policy
from hone.algorithms.rl.rollouts import run_rollout
from hone.algorithms.types import Trajectory
from tests.support.fake_tinker import MODEL, FakeService
from tests.support.rl_tasks import Dialogue

TASK, REPLY, START = [30, 31, 32], [20, 21], 20


def play(compactor: Compactor, turns: int = 8, context: int = 64) -> Trajectory:
    service = FakeService(context_length=context)
    policy = Policy(service.create_sampling_client(base_model=MODEL).result(), max_tokens=3, context_limit=context)
    return asyncio.run(run_rollout(Dialogue(TASK, REPLY, 5, turns), policy, (0, "train"), compactor=compactor))


def test_the_middle_is_dropped_and_a_new_datum_begins() -> None:
    trajectory = play(DropMiddle(limit=18, first=3, last=8, turn_start=START))
    assert trajectory.stop_reason == "completed"
    assert len(trajectory.transitions) == 8
    seen = [transition.observation.to_ints() for transition in trajectory.transitions]
    assert max(map(len, seen)) <= 18
    assert all(tokens[:3] == TASK for tokens in seen)
    data = policy_datums(trajectory, 1.0, provenance=True)
    assert len(data) > 1
    # Every sampled token is learned once, under the history that the model saw.
    sampled = [token for t in trajectory.transitions for token in t.action.tokens]
    learned = [
        token
        for item in data
        for token, mask in zip(item.datum.loss_fn_inputs["target_tokens"].data, item.mask_T, strict=True)
        if mask
    ]
    assert learned == sampled
    begun = [item.datum.model_input.to_ints() for item in data[1:]]
    assert all(tokens[:3] == TASK and tokens[3] == START for tokens in begun)


def test_after_compaction_the_history_goes_on_token_for_token() -> None:
    trajectory = play(DropMiddle(limit=18, first=3, last=8))
    for before, after in zip(trajectory.transitions, trajectory.transitions[1:], strict=False):
        whole = [*before.observation.to_ints(), *before.action.tokens, *REPLY]
        shown = after.observation.to_ints()
        assert shown == (whole if len(whole) <= 18 else whole[:3] + whole[-8:])


def test_a_summary_is_an_action_of_its_own_that_is_learned_from() -> None:
    request, before, after = (25, 26), (27,), (28,)
    trajectory = play(Summarise(18, 3, request, before, after, max_tokens=2, stop=[]), turns=6)
    summaries = [t for t in trajectory.transitions if "summary_tokens" in t.metrics]
    assert summaries
    assert len(trajectory.transitions) == 6 + len(summaries)
    for at, transition in enumerate(trajectory.transitions):
        if transition not in summaries:
            continue
        assert tuple(transition.observation.to_ints()[-2:]) == request
        following = trajectory.transitions[at + 1].observation.to_ints()
        assert following == [*TASK, *before, *transition.action.tokens, *after]
    data = policy_datums(trajectory, 1.0, provenance=True)
    # The summary ends the datum of the turns that it sums up.
    assert len(data) == len(summaries) + 1
    assert unshifted(data[0].datum).to_ints()[-2:] == summaries[0].action.tokens


def test_an_environment_that_rewrites_its_history_is_shown_as_it_is() -> None:
    class Forgetful(Dialogue):
        async def step(self, action, *, extra=None):  # type: ignore[no-untyped-def]
            result = await super().step(action, extra=extra)
            if self.taken % 4 == 0:
                self.history = [*TASK, 29]
                result.next_observation = type(result.next_observation).from_ints(self.history)
            return result

    service = FakeService()
    policy = Policy(service.create_sampling_client(base_model=MODEL).result(), max_tokens=3)
    env = Forgetful(TASK, REPLY, 5, turns=8)
    trajectory = asyncio.run(run_rollout(env, policy, (0,), compactor=DropMiddle(14, 3, 6)))
    assert trajectory.transitions[4].observation.to_ints() == [*TASK, 29]
