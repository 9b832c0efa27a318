"""Episodes and their groups, on small environments and a service that keeps account."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import pytest
import tinker

from hone.algorithms.datums import policy_datums
from hone.algorithms.rl.config import RolloutConfig
from hone.algorithms.rl.policy import Policy, sample_seed
from hone.algorithms.rl.rollouts import check_lost, run_group, run_groups, run_rollout, stream_groups
from hone.algorithms.types import Env, Metrics, Observation, PromptTooLong, StepResult, Trajectory, TrajectoryGroup
from hone.errors import UserError
from tests.support.fake_tinker import MODEL, FakeService, Latency
from tests.support.rl_tasks import Broken, Dialogue, Group, Question

CONFIG = RolloutConfig(max_tokens=4)
PLACE = (0, "train", 3)


def policy(service: FakeService | None = None, **settings: Any) -> Policy:
    sampler = (service or FakeService()).create_sampling_client(base_model=MODEL).result()
    return Policy(sampler, **{"max_tokens": 4} | settings)


def question() -> Question:
    return Question([1, 2], lambda action: float(action[0] % 2))


def run(group: Group, config: RolloutConfig = CONFIG, service: FakeService | None = None) -> TrajectoryGroup:
    return asyncio.run(run_group(group, policy(service), PLACE, config))


def test_a_place_has_one_seed_and_another_place_another() -> None:
    places = [(seed, "train", step, member) for seed in range(3) for step in range(5) for member in range(7)]
    assert len({sample_seed(*place) for place in places}) == len(places)
    assert sample_seed(0, "train", 1, 2) == 1_110_954_790  # for good: a run that goes on must sample the same
    assert sample_seed(0, "test", 1, 2) != sample_seed(0, "train", 1, 2)


def test_an_episode_steps_on_the_tokens_that_were_sampled() -> None:
    env = Dialogue([1, 2], [3, 4], wanted=5, turns=3)
    trajectory = asyncio.run(run_rollout(env, policy(), PLACE))
    assert trajectory.stop_reason == "completed"
    said = [transition.action for transition in trajectory.transitions]
    seen = [1, 2]
    for transition in trajectory.transitions:
        assert transition.observation.to_ints() == seen
        assert len(transition.action.tokens) == len(transition.action.logprobs)
        seen = [*seen, *transition.action.tokens, 3, 4]
    (datum,) = policy_datums(trajectory, 1.0, provenance=True)
    assert datum.mask_T.sum() == sum(len(action.tokens) for action in said)
    assert datum.datum.loss_fn_input_spans is not None


def test_the_same_place_samples_the_same_and_members_differ() -> None:
    group = Group(lambda: [question() for _ in range(6)])
    first, second = run(group), run(group)
    tokens = [t.transitions[0].action.tokens for t in first.trajectories_G]
    assert tokens == [t.transitions[0].action.tokens for t in second.trajectories_G]
    assert len({tuple(action) for action in tokens}) > 1


def test_an_episode_without_an_end_is_ended() -> None:
    env = Dialogue([1], [2], wanted=5, turns=100)
    trajectory = asyncio.run(run_rollout(env, policy(), PLACE, max_turns=2))
    assert trajectory.stop_reason == "max_turns"
    assert len(trajectory.transitions) == 2


def test_an_episode_ends_where_the_context_does() -> None:
    env = Dialogue([1], [2], wanted=5, turns=100)
    trajectory = asyncio.run(run_rollout(env, policy(context_limit=12), PLACE))
    assert trajectory.stop_reason == "context_overflow"
    lengths = [t.observation.length + len(t.action.tokens) for t in trajectory.transitions]
    assert max(lengths) <= 12
    assert trajectory.final_observation.length >= 12


@pytest.mark.parametrize(
    ("made", "settings", "told"),
    [
        (lambda: Dialogue([1], [2], wanted=5, turns=2), {}, []),
        (lambda: Dialogue([1], [2], wanted=5, turns=9), {"max_turns": 2}, ["max_turns"]),
        (lambda: Dialogue([1] * 40, [2], wanted=5, turns=9), {}, ["context_overflow"]),
        (lambda: Broken("step"), {}, ["failure"]),
        (lambda: Broken("observe"), {}, ["failure"]),
    ],
)
def test_an_environment_is_told_of_an_end_that_is_not_its_own(
    made: Callable[[], Env], settings: dict[str, int], told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []

    async def end(self: Env, by: str) -> None:
        heard.append(by)

    monkeypatch.setattr(Env, "end", end)
    for shared in (False, True):
        config = RolloutConfig(shared_prompts=shared, **settings)  # type: ignore[arg-type]
        asyncio.run(run_group(Group(lambda: [made()]), policy(context_limit=30), PLACE, config))
        assert heard == told
        heard.clear()


class TooLong(Question):
    async def initial_observation(self) -> Observation | PromptTooLong:
        return PromptTooLong(-0.5, {"overflow": 1.0})


@pytest.mark.parametrize("shared", [False, True])
def test_a_prompt_that_is_too_long_is_an_episode_unsampled(shared: bool) -> None:
    service = FakeService()
    group = Group(lambda: [TooLong([1], lambda action: 1.0), question()])
    result = run(group, CONFIG.model_copy(update={"shared_prompts": shared}), service)
    assert result.total_rewards_G()[0] == -0.5
    assert result.trajectories_G[0].stop_reason == "context_overflow"
    assert policy_datums(result.trajectories_G[0], 1.0) == []
    assert service.kinds().count("sample") == 1


def test_rewards_of_the_group_come_on_top() -> None:
    def ranked(trajectories: Sequence[Trajectory]) -> list[tuple[float, Metrics]]:
        return [(float(index), {"rank": float(index)}) for index in range(len(trajectories))]

    result = run(Group(lambda: [Question([1], lambda a: 10.0) for _ in range(3)], group_rewards=ranked, tags=("t",)))
    assert result.total_rewards_G() == [10, 11, 12]
    assert result.metrics_G == [{"rank": 0.0}, {"rank": 1.0}, {"rank": 2.0}]
    assert result.tags == ("t",)


@pytest.mark.parametrize(
    ("where", "kind"),
    [("observe", "KeyError"), ("step", "RuntimeError"), ("nan", "ValueError"), ("hang", "TimeoutError")],
)
@pytest.mark.parametrize("shared", [False, True])
def test_a_failed_episode_is_data_and_the_others_go_on(where: str, kind: str, shared: bool) -> None:
    seconds = 0.4 if where == "hang" else None
    config = CONFIG.model_copy(update={"timeout_seconds": seconds, "shared_prompts": shared})
    group = Group(lambda: [question(), Broken(where, seconds=60), question()])
    result = run(group, config)
    assert len(result.trajectories_G) == len(result.group_rewards_G) == len(result.metrics_G) == 2
    (failure,) = result.failures
    assert failure.kind == kind
    assert failure.message
    assert group.cleaned == 1


@pytest.mark.parametrize(
    ("envs", "tolerated", "kept"),
    [
        ([question, partial(Broken, "step")], 1.0, 0),  # one left has nobody to be compared with
        ([question, question, partial(Broken, "step"), partial(Broken, "step")], 0.5, 2),
        ([question, question, partial(Broken, "step"), partial(Broken, "step")], 0.4, 0),
        ([question, question, partial(Broken, "step")], 0.0, 0),
        ([question], 0.0, 1),  # a group of one by design
    ],
)
def test_how_many_failures_a_group_bears(envs: Sequence[Any], tolerated: float, kept: int) -> None:
    config = CONFIG.model_copy(update={"tolerated_failures": tolerated})
    assert len(run(Group(lambda: [make() for make in envs]), config).trajectories_G) == kept


def raising(*_: Any) -> Any:
    raise OSError("no sandbox")


def test_a_group_that_cannot_begin_or_be_graded_is_lost_and_cleaned_up() -> None:
    for group in (Group(raising), Group(lambda: [question(), question()], group_rewards=raising)):
        result = run(group)
        assert result.trajectories_G == []
        assert [(failure.kind, failure.message) for failure in result.failures] == [("OSError", "no sandbox")]
        assert group.cleaned == 1


def test_a_cleanup_that_fails_costs_no_episode() -> None:
    class Untidy(Group):
        async def cleanup(self) -> None:
            raise OSError("still busy")

    result = run(Untidy(lambda: [question(), question()]))
    assert len(result.trajectories_G) == 2
    assert [failure.message for failure in result.failures] == ["still busy"]


def test_what_was_cancelled_is_cleaned_up() -> None:
    group = Group(lambda: [Broken("hang", seconds=60)])

    async def cancelled() -> None:
        task = asyncio.create_task(run_group(group, policy(), PLACE, CONFIG))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert group.cleaned == 1


def test_environments_that_all_fail_stop_the_run_and_say_why() -> None:
    good, bad = Group(lambda: [question(), question()]), Group(raising)
    groups = asyncio.run(run_groups([good, bad], policy(), PLACE, CONFIG))
    assert [len(group.trajectories_G) for group in groups] == [2, 0]
    with pytest.raises(UserError, match=r"2 of 3 groups were lost.*OSError: no sandbox"):
        asyncio.run(run_groups([good, bad, bad], policy(), PLACE, CONFIG))
    check_lost(groups, CONFIG.model_copy(update={"tolerated_groups": 0.5}))


def test_requests_under_way_are_bounded() -> None:
    service = FakeService(latency=Latency(per_sampled_token=0.002))
    bounded = policy(service, slots=asyncio.Semaphore(3))
    groups = [Group(lambda: [question() for _ in range(4)]) for _ in range(4)]
    asyncio.run(run_groups(groups, bounded, PLACE, CONFIG))
    assert service.kinds().count("sample") == 16
    assert service.most_samples_at_once == 3


def test_a_group_may_ask_for_its_first_answers_together() -> None:
    service = FakeService()
    envs = [Dialogue([1], [2], wanted=5, turns=2) for _ in range(3)] + [Dialogue([7], [2], wanted=5, turns=2)]
    result = run(Group(lambda: envs), CONFIG.model_copy(update={"shared_prompts": True}), service)
    samples = [request.facts["num_samples"] for request in service.requests if request.kind == "sample"]
    assert sorted(samples) == [1, 1, 1, 1, 1, 3]
    ids = {t.action.sequence_id for trajectory in result.trajectories_G for t in trajectory.transitions}
    assert len(ids) == 8
    hits = [trajectory.transitions[0].action.prompt_cache_hit_tokens for trajectory in result.trajectories_G]
    assert hits == [0, 1, 1, 0]
    assert len({tuple(t.transitions[0].action.tokens) for t in result.trajectories_G}) > 1


class Slow(Question):
    """Answers after a while that its prompt sets."""

    async def step(self, action: list[int], *, extra: Any = None) -> StepResult:
        await asyncio.sleep(0.01 * self.prompt[0])
        return await super().step(action, extra=extra)


@pytest.mark.parametrize(("in_order", "expected"), [(False, [1, 2, 0]), (True, [0, 1, 2])])
def test_groups_arrive_as_they_are_complete_or_in_order(in_order: bool, expected: list[int]) -> None:
    def slow(pause: int) -> Group:
        return Group(lambda: [Slow([pause], lambda action: 1.0)])

    async def arrivals() -> list[int]:
        stream = stream_groups([slow(9), slow(1), slow(5)], policy(), PLACE, CONFIG, in_order=in_order)
        async with aclosing(stream):
            return [index async for index, _ in stream]

    assert asyncio.run(arrivals()) == expected


def test_a_stream_that_is_left_ends_its_episodes() -> None:
    groups = [Group(lambda: [question()]), Group(lambda: [Broken("hang", seconds=60)])]

    async def first() -> int:
        stream = stream_groups(groups, policy(), PLACE, CONFIG, in_order=True)
        async with aclosing(stream):
            async for index, _ in stream:
                return index
        raise AssertionError

    assert asyncio.run(first()) == 0
    assert [group.cleaned for group in groups] == [1, 1]


def test_a_prompt_without_room_is_an_error_that_says_so() -> None:
    async def act() -> None:
        await policy(context_limit=3).act(Observation(tinker.ModelInput.from_ints([1, 2, 3]), []), 0)

    with pytest.raises(UserError, match="leaves no room in a context of 3"):
        asyncio.run(act())


def test_two_players_wait_for_each_other_without_running_out_of_slots() -> None:
    moved = asyncio.Event()

    class First(Question):
        async def step(self, action: list[int], *, extra: Any = None) -> StepResult:
            moved.set()
            return await super().step(action, extra=extra)

    class Second(Question):
        async def initial_observation(self) -> Observation | PromptTooLong:
            await moved.wait()
            return await super().initial_observation()

    envs: list[Env] = [Second([1], lambda a: 0.0), First([2], lambda a: 1.0)]

    async def play() -> TrajectoryGroup:
        return await run_group(Group(lambda: envs), policy(slots=asyncio.Semaphore(1)), PLACE, CONFIG)

    assert asyncio.run(play()).total_rewards_G() == [0.0, 1.0]
