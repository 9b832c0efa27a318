"""Means by hand, and the cookbook's numbers wherever its means are right."""

import numpy as np
import pytest
import tinker

from hone.algorithms.rl.metrics import environment_means, episode_metrics
from hone.algorithms.types import Metrics, RolloutFailure, SampledTokens, Trajectory, TrajectoryGroup, Transition
from tests.support.cookbook_types import their_group


def episode(reward: float, *turns: Metrics, length: int = 3, reason: str | None = None) -> Trajectory:
    transitions = [
        Transition(
            tinker.ModelInput.from_ints(list(range(1, 2 + index))),
            SampledTokens([5] * (length + index), [-1.0] * (length + index), "stop", None, index),
            reward / len(turns),
            metrics,
        )
        for index, metrics in enumerate(turns)
    ]
    return Trajectory(transitions, tinker.ModelInput.empty(), reason)


def group(*episodes: Trajectory, tags: tuple[str, ...] = (), metrics: Metrics | None = None) -> TrajectoryGroup:
    return TrajectoryGroup(list(episodes), [0.0] * len(episodes), [dict(metrics or {}) for _ in episodes], tags)


@pytest.mark.parametrize("seed", range(4))
def test_every_number_of_the_cookbook_where_all_report_alike(seed: int) -> None:
    metric_util = pytest.importorskip("tinker_cookbook.rl.metric_util")
    draw = np.random.default_rng(seed)

    def random_group(tags: tuple[str, ...]) -> TrajectoryGroup:
        episodes = [
            episode(
                float(draw.integers(0, 2)),
                *({"correct": float(draw.random()), "format": 1.0} for _ in range(2)),
                length=int(draw.integers(1, 9)),
            )
            for _ in range(4)
        ]
        return group(*episodes, tags=tags)

    groups = [random_group(("sum", "easy")), random_group(("sum",)), random_group(("word",))]
    ours = episode_metrics(groups)
    theirs = metric_util.compute_trajectory_metrics([their_group(g) for g in groups], [list(g.tags) for g in groups])
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, rel=1e-6), name
    assert "env/easy/reward/total" in ours
    extra = {name.split("/", 2)[2] for name in ours.keys() - theirs.keys()}
    assert extra == {"reward/std"}


def test_what_happens_to_some_is_a_share_and_not_always_one() -> None:
    """The cookbook's mean is over those that report: 1.0 for both."""
    episodes = [episode(0, {"timeout": 1.0}), *(episode(1, {"done": 1.0}) for _ in range(3))]
    assert environment_means([group(*episodes)]) == {"done": 0.75, "timeout": 0.25}


def test_an_episode_counts_once_however_long_it_is() -> None:
    short, long = episode(0, {"tool": 1.0}), episode(0, *({"tool": 0.0} for _ in range(9)))
    assert environment_means([group(short, long)]) == {"tool": 0.5}


def test_environments_that_never_report_a_metric_do_not_dilute_it() -> None:
    sums = group(episode(1, {"digits": 4.0}), episode(1, {"digits": 2.0}), tags=("sum",))
    words = group(episode(1, {}), episode(1, {}), tags=("word",))
    assert environment_means([sums, words]) == {"digits": 3.0}


def test_metrics_of_the_group_and_of_its_steps_are_one() -> None:
    assert environment_means([group(episode(1, {"good": 1.0}), metrics={"good": 0.0})]) == {"good": 0.5}


def test_ends_are_shares_of_all_episodes() -> None:
    groups = [group(episode(1, {}, reason="completed"), episode(0, {}, reason="max_turns"))]
    groups.append(group(episode(1, {}, reason="completed"), episode(1, {}, reason="completed")))
    found = episode_metrics(groups)
    assert found["env/all/stop/completed"] == 0.75
    assert found["env/all/stop/max_turns"] == 0.25
    assert found["env/all/by_group/frac_mixed"] == 0.5
    assert found["env/all/by_group/frac_all_good"] == 0.5
    assert found["env/all/by_group/frac_all_bad"] == 0.0
    assert found["env/all/reward/std"] == pytest.approx(np.std([1, 0, 1, 1]))


def test_a_tag_that_all_groups_have_is_not_told_twice() -> None:
    groups = [group(episode(1, {}), tags=("sum",)), group(episode(0, {}), tags=("sum",))]
    assert not any(name.startswith("env/sum") for name in episode_metrics(groups))


def test_tags_stay_with_their_groups_when_one_is_lost() -> None:
    failed = TrajectoryGroup([], [], [], ("sum",), (RolloutFailure("KeyError", "x"), RolloutFailure("OSError", "y")))
    groups = [failed, group(episode(1, {}), tags=("word",)), group(episode(0, {}), tags=("sum",))]
    found = episode_metrics(groups)
    assert found["env/word/reward/total"] == 1
    assert found["env/sum/reward/total"] == 0
    assert found["env/all/total_episodes"] == 2
    assert found["rollout_errors/KeyError"] == 1
    assert found["rollout_errors/total"] == 2
    assert found["rollout_errors/groups_skipped"] == 1


def test_nothing_at_all_is_a_row_of_zeros() -> None:
    assert episode_metrics([])["env/all/reward/total"] == 0.0
