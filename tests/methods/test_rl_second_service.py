"""The three loops of reinforcement learning on the strict service in this process: what they learn, send and resume."""

import asyncio
import json
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hone.algorithms.config import CheckpointConfig, ModelConfig, OptimizerConfig
from hone.algorithms.rl import asynchronous, streaming, train
from hone.algorithms.rl.asynchronous import AsynchronousConfig
from hone.algorithms.rl.compaction import DropMiddle
from hone.algorithms.rl.config import KlPenaltyConfig, RlConfig, RolloutConfig, TranscriptConfig
from hone.algorithms.rl.held_out import HeldOutRewards
from hone.algorithms.rl.losses import Cispo, Dro, Gspo, ImportanceSampling, Loss, Ppo, StableReinforce
from hone.algorithms.rl.streaming import StreamingConfig
from hone.algorithms.rl.train import GrpoConfig
from hone.algorithms.types import EnvGroupBuilder, StepResult
from hone.errors import UserError
from tests.support.fake_tinker import MODEL, Crash, FakeService, FakeTokenizer, Latency, Request, crash_at
from tests.support.rl_tasks import Broken, Dialogue, Group, Problems, Question, successors

LOOPS: dict[type[RlConfig], Callable[..., Any]] = {
    GrpoConfig: train.train,
    StreamingConfig: streaming.train,
    AsynchronousConfig: asynchronous.train,
}
Row = dict[str, Any]


def config_of(kind: type[RlConfig] = GrpoConfig, **fields: Any) -> Any:
    known: dict[str, Any] = {
        "model": ModelConfig(name=MODEL),
        "optimizer": OptimizerConfig(learning_rate=0.5),
        "rollouts": RolloutConfig(max_tokens=1),
        "checkpoints": CheckpointConfig(every=3),
        "transcripts": TranscriptConfig(every=0),
        "eval_every": 0,
    }
    return kind(**known | fields)


def run(config: Any, dataset: Any, folder: Path, service: FakeService | None = None, **more: Any) -> list[Row]:
    """The rows of the run without their times."""
    asyncio.run(LOOPS[type(config)](config, service or FakeService(), dataset, folder, **more))
    return rows(folder)


def rows(folder: Path) -> list[Row]:
    read = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if not key.startswith("time/")} for row in read]


def rewards(found: Sequence[Row]) -> list[float]:
    return [row["env/all/reward/total"] for row in found if "env/all/reward/total" in row]


@pytest.mark.parametrize("kind", LOOPS)
def test_each_loop_raises_the_reward(kind: type[RlConfig], tmp_path: Path) -> None:
    dataset = successors(20, groups=8)
    held_out = HeldOutRewards(successors(2, groups=9, members=4), RolloutConfig(max_tokens=1))
    found = run(config_of(kind, eval_every=10), dataset, tmp_path, evaluators=[held_out])
    assert sum(rewards(found)[-5:]) / 5 > 0.4 > 0.1 > sum(rewards(found)[:5]) / 5
    measured = [row["test/env/all/reward/total"] for row in found if "test/env/all/reward/total" in row]
    assert len(measured) == 3
    assert measured[-1] > 0.4 > measured[0]
    assert all("env/odd/reward/total" in row and "optim/lr" in row for row in found[:-1])


@pytest.mark.parametrize("loss", [ImportanceSampling(), Ppo(), Cispo(), Dro(), Gspo(), StableReinforce()])
def test_each_loss_raises_the_reward(loss: Loss, tmp_path: Path) -> None:
    found = run(config_of(loss=loss, num_substeps=2), successors(16, groups=8), tmp_path)
    assert sum(rewards(found)[-4:]) / 4 > 0.25


@pytest.mark.parametrize("advantage", ["centred", "dr_grpo", "rloo", "group_normalised", "maxrl"])
def test_each_advantage_raises_the_reward(advantage: str, tmp_path: Path) -> None:
    found = run(config_of(advantage=advantage), successors(16, groups=8), tmp_path)
    assert sum(rewards(found)[-4:]) / 4 > 0.25


FEATURES: dict[str, dict[str, Any]] = {
    "plain": {},
    "substeps": {"num_substeps": 3, "loss": Ppo()},
    "penalty": {"kl_penalty": KlPenaltyConfig(coefficient=0.1, discount=0.5), "post_kl": True},
    "provenance": {"loss": StableReinforce()},
}


@pytest.mark.parametrize(
    ("fields", "request_kind", "count"),
    [
        (FEATURES["plain"], "optim_step", 1),
        (FEATURES["plain"], "optim_step", 5),
        (FEATURES["substeps"], "forward_backward", 11),
        (FEATURES["penalty"], "compute_logprobs", 60),
        (FEATURES["penalty"], "save_state", 2),
        (FEATURES["provenance"], "publish", 6),
    ],
)
def test_a_run_that_was_cut_off_anywhere_goes_on_to_the_same_numbers(
    fields: Row, request_kind: str, count: int, tmp_path: Path
) -> None:
    config, dataset = config_of(**fields, eval_every=4), successors(8)
    held_out = [HeldOutRewards(successors(1, groups=4), RolloutConfig(max_tokens=1))]
    whole = run(config, dataset, tmp_path / "whole", evaluators=held_out)
    service = FakeService(on_request=crash_at(request_kind, count))
    with pytest.raises(Crash):
        run(config, dataset, tmp_path / "cut", service, evaluators=held_out)
    service.on_request = None
    assert run(config, dataset, tmp_path / "cut", service, evaluators=held_out) == whole


def test_streaming_learns_what_the_synchronous_loop_learns(tmp_path: Path) -> None:
    dataset = successors(8)
    whole = run(config_of(), dataset, tmp_path / "whole")
    for order in ("dataset", "completed"):
        found = run(config_of(StreamingConfig, order=order, groups_per_minibatch=1), dataset, tmp_path / order)
        for row, expected in zip(found, whole, strict=True):
            row.pop("minibatches")
            assert row == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("kind", LOOPS)
def test_each_loop_makes_as_many_optimizer_steps_of_a_batch_as_it_is_told(kind: type[RlConfig], tmp_path: Path) -> None:
    told = {"num_substeps": 3, "post_kl": True, "remove_constant_groups": False, "loss": Ppo()}
    alone = {AsynchronousConfig: {"max_steps_off_policy": 0}, StreamingConfig: {"order": "dataset"}}
    service = FakeService()
    found = run(config_of(kind, **told, **alone.get(kind, {})), successors(4, groups=6), tmp_path / "it", service)
    assert service.kinds().count("optim_step") == 3 * 4
    # Groups of one size, six of them: the parts are the same in all three loops, and so is what is learned.
    whole = run(config_of(**told), successors(4, groups=6), tmp_path / "whole")
    for row, expected in zip(found, whole, strict=True):
        kept = {key: value for key, value in row.items() if key in expected}
        assert kept == pytest.approx(expected, rel=1e-5, abs=1e-6)
        assert row["kl_pre_post_v1"] != 0


@pytest.mark.parametrize(
    ("groups", "substeps", "ends"), [(6, 1, set()), (6, 3, {2, 4}), (5, 2, {2}), (2, 4, {1}), (1, 4, set())]
)
def test_parts_of_a_step_have_equal_shares_of_its_groups(groups: int, substeps: int, ends: set[int]) -> None:
    assert streaming.ends_of_substeps(groups, substeps) == ends


def test_streaming_steps_while_other_groups_are_sampled(tmp_path: Path) -> None:
    service = FakeService(latency=Latency(per_sampled_token=0.005))

    def batch(index: int) -> list[EnvGroupBuilder]:
        def group(turns: int) -> Group:
            return Group(lambda: [Dialogue([1 + m], [2], wanted=5, turns=turns) for m in range(4)])

        return [group(turns) for turns in (1, 12, 1, 12)]

    config = config_of(
        StreamingConfig, num_substeps=2, rollouts=RolloutConfig(max_tokens=4), remove_constant_groups=False
    )
    run(config, Problems(1, batch), tmp_path, service)
    kinds = service.kinds()
    first, second = [at for at, kind in enumerate(kinds) if kind == "optim_step"]
    assert "sample" in kinds[first:second]


def test_streaming_refuses_a_penalty_that_needs_the_whole_batch() -> None:
    with pytest.raises(ValueError, match="`kl_penalty` subtracts its mean over the whole batch"):
        config_of(StreamingConfig, kl_penalty=KlPenaltyConfig(coefficient=0.1))


@pytest.mark.parametrize("substeps", [1, 2])
def test_streaming_in_order_goes_on_to_the_same_numbers(substeps: int, tmp_path: Path) -> None:
    told = {"order": "dataset", "groups_per_minibatch": 1, "remove_constant_groups": False}
    config = config_of(StreamingConfig, num_substeps=substeps, **told)
    whole = run(config, successors(8), tmp_path / "whole")
    service = FakeService(on_request=crash_at("forward_backward", 17))
    with pytest.raises(Crash):
        run(config, successors(8), tmp_path / "cut", service)
    service.on_request = None
    assert run(config, successors(8), tmp_path / "cut", service) == whole


def test_gradients_of_complete_groups_go_out_before_the_others_are_sampled(tmp_path: Path) -> None:
    service = FakeService(latency=Latency(per_sampled_token=0.005))

    def question(token: int, turns: int) -> Dialogue:
        return Dialogue([token], [2], wanted=5, turns=turns)

    def batch(index: int) -> list[EnvGroupBuilder]:
        return [Group(lambda turns=turns: [question(1 + m, turns) for m in range(4)]) for turns in (1, 12, 1, 12)]

    config = config_of(
        StreamingConfig, groups_per_minibatch=2, rollouts=RolloutConfig(max_tokens=4), remove_constant_groups=False
    )
    run(config, Problems(1, batch), tmp_path, service)
    kinds = service.kinds()
    first, second = [at for at, kind in enumerate(kinds) if kind == "forward_backward"]
    assert "sample" in kinds[first:second]
    assert kinds[second + 1 :] == ["optim_step", "publish", "save_state", "save_weights_for_sampler"]


def test_without_staleness_the_asynchronous_loop_is_the_synchronous_one(tmp_path: Path) -> None:
    whole = run(config_of(), successors(8), tmp_path / "whole")
    config = config_of(AsynchronousConfig, max_steps_off_policy=0, loss=ImportanceSampling())
    found = run(config, successors(8), tmp_path / "async")
    for row, expected in zip(found, whole, strict=True):
        assert {key: value for key, value in row.items() if not key.startswith("async/")} == expected
        assert row["async/staleness_max"] == 0


class Slow(Question):
    """Takes as long as its prompt's token says."""

    async def step(self, action: list[int], *, extra: Any = None) -> StepResult:
        await asyncio.sleep(0.001 * self.prompt[0])
        return await super().step(action, extra=extra)


def uneven(batches: int) -> Problems:
    """Problems of which one in eight takes twenty times as long as the others."""

    def batch(index: int) -> list[EnvGroupBuilder]:
        def builder(place: int) -> Group:
            token = 39 if (index * 4 + place) % 8 == 5 else 2
            return Group(lambda: [Slow([token], lambda action: float(action[0] % 2)) for _ in range(4)])

        return [builder(place) for place in range(4)]

    return Problems(batches, batch)


@pytest.mark.parametrize("most", [0, 1, 3])
def test_nothing_is_trained_that_is_too_old_and_nothing_is_left_out(most: int, tmp_path: Path) -> None:
    config = config_of(AsynchronousConfig, max_steps_off_policy=most)
    found = run(config, uneven(12), tmp_path)
    assert len(found) == 12
    stale = [int(number) for row in found for number in row["async/staleness"].split()]
    assert max(stale) == most
    trained = [name for row in found for name in row["async/groups"].split()]
    assert sorted(trained) == sorted(f"{batch}:{place}" for batch in range(12) for place in range(4))


@pytest.mark.parametrize("after", [2, 3])
def test_an_asynchronous_run_that_is_cut_off_again_and_again_leaves_no_problem_out(after: int, tmp_path: Path) -> None:
    config = config_of(
        AsynchronousConfig,
        max_steps_off_policy=2,
        checkpoints=CheckpointConfig(every=1),
        remove_constant_groups=False,
    )
    service, crashes = FakeService(), 0
    while True:
        service.on_request = crash_at("optim_step", after)
        try:
            found = run(config, uneven(12), tmp_path, service)
            break
        except Crash:
            crashes += 1
    assert crashes >= 12 // after - 1
    assert [row["step"] for row in found] == list(range(12))
    trained = [name for row in found for name in row["async/groups"].split()]
    assert sorted(trained) == sorted(f"{batch}:{place}" for batch in range(12) for place in range(4))


@pytest.mark.parametrize("kind", LOOPS)
def test_a_failing_environment_does_not_stop_the_run(kind: type[RlConfig], tmp_path: Path) -> None:
    good = successors(6)

    def batch(index: int) -> list[EnvGroupBuilder]:
        partly = Group(lambda: [*good.get_batch(index)[0].make(), Broken("step")])  # type: ignore[attr-defined]
        return [*good.get_batch(index), partly, Group(lambda: [Broken("observe"), Broken("step")])]

    found = run(config_of(kind, transcripts=TranscriptConfig(groups=10)), Problems(6, batch), tmp_path)
    assert all(row["rollout_errors/groups_skipped"] == 1 and row["rollout_errors/total"] == 3 for row in found)
    assert all(row["env/all/total_episodes"] == 40 for row in found)
    assert "the grader crashed" in (tmp_path / "iteration_000002" / "rollouts.html").read_text()


@pytest.mark.parametrize("kind", LOOPS)
def test_a_step_that_teaches_nothing_takes_no_optimizer_step(kind: type[RlConfig], tmp_path: Path) -> None:
    def batch(index: int) -> list[EnvGroupBuilder]:
        reward = float(index == 1)
        return [Group(lambda: [Question([3], lambda a: reward * (a[0] % 2)) for _ in range(8)])]

    service = FakeService()
    found = run(config_of(kind), Problems(3, batch), tmp_path, service)
    assert [row.get("num_datums") for row in found] == [0, 8, 0]
    assert service.kinds().count("optim_step") == 1


def test_a_penalty_keeps_the_policy_near_its_reference(tmp_path: Path) -> None:
    drift = {}
    for coefficient in (1e-6, 1.0):
        config = config_of(
            kl_penalty=KlPenaltyConfig(coefficient=coefficient),
            optimizer=OptimizerConfig(learning_rate=0.1),
            remove_constant_groups=False,
        )
        found = run(config, uneven(20), tmp_path / str(coefficient))
        drift[coefficient] = sum(row["kl_policy_base"] for row in found[-4:]) / 4
        assert found[0]["kl_policy_base"] == pytest.approx(0.0, abs=1e-6)
    assert drift[1.0] < 0.5 * drift[1e-6]


def test_a_reference_may_be_a_checkpoint(tmp_path: Path) -> None:
    service = FakeService()
    last = asyncio.run(train.train(config_of(), service, successors(4), tmp_path / "first"))
    config = config_of(
        model=ModelConfig(name=MODEL, init_from_checkpoint=last.state_path),
        kl_penalty=KlPenaltyConfig(coefficient=0.1, reference=last.sampler_path),
    )
    found = run(config, successors(2), tmp_path / "second", service)
    assert found[0]["kl_policy_base"] == pytest.approx(0.0, abs=1e-6)


def test_long_episodes_are_compacted_and_learned_from(tmp_path: Path) -> None:
    def batch(index: int) -> list[EnvGroupBuilder]:
        return [Group(lambda: [Dialogue([30, 31], [20], 5, turns=10) for _ in range(6)]) for _ in range(2)]

    service = FakeService(context_length=24)
    config = config_of(rollouts=RolloutConfig(max_tokens=2, context_limit=24), loss=StableReinforce())
    compactor = DropMiddle(limit=16, first=2, last=6, turn_start=20)
    found = run(config, Problems(8, batch), tmp_path, service, compactor=compactor)
    assert all(row["env/all/stop/completed"] == 1.0 for row in found)
    assert found[0]["num_datums"] > 12
    assert rewards(found)[-1] > 2 * rewards(found)[0]


def test_finished_runs_and_empty_datasets(tmp_path: Path) -> None:
    service = FakeService()
    last = asyncio.run(train.train(config_of(), service, successors(2), tmp_path))
    before = len(service.requests)
    assert asyncio.run(train.train(config_of(), service, successors(2), tmp_path)) == last
    assert len(service.requests) == before
    with pytest.raises(UserError, match="nothing to train on"):
        run(config_of(), successors(0), tmp_path / "empty")


def test_epochs_sample_anew(tmp_path: Path) -> None:
    config = config_of(epochs=2, transcripts=TranscriptConfig(), optimizer=OptimizerConfig(learning_rate=1e-9))
    run(config, successors(2), tmp_path, decode=FakeTokenizer().decode)
    first, again = (
        (tmp_path / f"iteration_{step:06d}" / "rollouts.jsonl").read_text().replace(f'"step": {step}', "")
        for step in (0, 2)
    )
    assert first != again


@pytest.mark.parametrize("kind", LOOPS)
def test_environments_that_all_fail_stop_each_loop(kind: type[RlConfig], tmp_path: Path) -> None:
    dataset = Problems(20, lambda index: [Group(lambda: [Broken("step"), Broken("step")]) for _ in range(4)])
    with pytest.raises(UserError, match="groups were lost"):
        run(config_of(kind), dataset, tmp_path)


@pytest.mark.parametrize("kind", LOOPS)
def test_the_first_interrupt_saves_and_the_run_goes_on_later(kind: type[RlConfig], tmp_path: Path) -> None:
    interrupting = crash_at("optim_step", 4)

    def interrupt(request: Request) -> None:
        try:
            interrupting(request)
        except Crash:
            signal.raise_signal(signal.SIGINT)

    config = config_of(kind, checkpoints=CheckpointConfig(every=0), remove_constant_groups=False)
    whole = run(config, successors(8), tmp_path / "whole")
    service = FakeService(on_request=interrupt)
    stopped = run(config, successors(8), tmp_path / "cut", service)
    assert [row["step"] for row in stopped] == [0, 1, 2, 3]  # the step under way was finished
    assert [saved.facts["ttl_seconds"] for saved in service.requests if saved.kind == "save_state"] == [None]
    service.on_request = None
    found = run(config, successors(8), tmp_path / "cut", service)
    assert len(found) == 8
    if kind is GrpoConfig:
        assert found == whole
