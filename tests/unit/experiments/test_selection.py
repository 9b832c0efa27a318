"""Arms whose truth is known; nothing is trained."""

import inspect

import numpy as np
import pytest

from hone.errors import UserError
from hone.experiments.records import ArmRecord, Measurement
from hone.experiments.selection import choose
from tests.support.experiment_records import METRIC, World, arm, failed_arm, measurement

EASY, HARD = [1.0, 1.0, 0.9, 0.8], [0.5, 0.4, 0.3, 0.6]


def test_the_mean_over_repeats_decides_not_the_luckiest_one() -> None:
    lucky = [arm(f"lucky-s{seed}", measurement([value] * 4), group="lucky") for seed, value in enumerate((0.2, 0.3, 1))]
    steady = [arm(f"steady-s{seed}", measurement([0.6] * 4), group="steady") for seed in range(3)]
    choice = choose([*lucky, *steady], METRIC, "max")
    assert choice.group == "steady"
    assert [one.group for one in choice.ranking] == ["steady", "lucky"]


def test_less_is_better_where_the_goal_says_so() -> None:
    arms = [arm("low", measurement(HARD)), arm("high", measurement(EASY))]
    assert choose(arms, METRIC, "min").group == "low"
    assert choose(arms, METRIC, "max").group == "high"


@pytest.mark.parametrize(("goal", "served"), [("max", "x-s3"), ("min", "x-s0")])
def test_the_served_repeat_is_the_middle_one(goal: str, served: str) -> None:
    """Of 0.1, 0.4, 0.6 and 0.9 two are as near to the median of 0.5; the better one is taken."""
    values = {"x-s0": 0.4, "x-s1": 0.1, "x-s2": 0.9, "x-s3": 0.6}
    arms = [arm(name, measurement([value] * 4), group="x") for name, value in values.items()]
    assert choose(arms, METRIC, goal).arm == served  # type: ignore[arg-type]


def test_failed_groups_are_excluded_with_the_reason_and_lost_repeats_are_named() -> None:
    arms = [
        arm("a-s0", measurement(HARD), group="a"),
        failed_arm("a-s1", group="a"),
        failed_arm("b", "row 3 has no answer"),
        arm("c", measurement(EASY, metric="nll")),
        arm("d", training="waiting", evaluation="waiting"),
        arm("e", training="done", evaluation="failed", error="the server went away"),
    ]
    choice = choose(arms, METRIC, "max")
    assert (choice.group, choice.arm, choice.ranking[0].lost) == ("a", "a-s0", ("a-s1",))
    assert choice.excluded == {
        "b": "failed: row 3 has no answer",
        "c": "not measured by mean_reward, only by nll",
        "d": "training is waiting, without a measurement",
        "e": "evaluation failed: the server went away",
    }


def test_arms_that_were_stopped_early_take_part() -> None:
    stopped = arm("a", measurement(EASY), training="stopped", error="no improvement in 3 measurements")
    assert choose([stopped, arm("b", measurement(HARD))], METRIC, "max").group == "a"


def test_a_failed_evaluation_with_validation_from_training_takes_part() -> None:
    """The loop measured it; what failed came after."""
    late = arm("a", measurement(EASY), evaluation="failed", error="the benchmark was not there")
    assert choose([late, arm("b", measurement(HARD))], METRIC, "max").group == "a"


def test_nothing_to_choose_from_says_why() -> None:
    with pytest.raises(UserError, match="no arm can be chosen by mean_reward: b: failed: row 3 has no answer"):
        choose([failed_arm("b", "row 3 has no answer")], METRIC, "max")
    with pytest.raises(UserError, match="there are no arms"):
        choose([], METRIC, "max")


def test_the_kept_checkpoint_is_what_counts() -> None:
    early, late = measurement(EASY, step=10), measurement(HARD, step=20)
    kept_early = arm("a", early, late, kept_step=10)
    assert choose([kept_early, arm("b", measurement([0.6] * 4))], METRIC, "max").group == "a"


def test_equal_means_go_to_the_cheaper_then_to_the_first() -> None:
    dear, cheap = arm("dear", measurement(EASY)), arm("cheap", measurement(EASY), usage={"training_tokens": 10})
    assert choose([dear, cheap], METRIC, "max").group == "cheap"
    assert choose([dear, arm("also", measurement(EASY))], METRIC, "max").group == "dear"


def test_groups_that_the_evidence_does_not_tell_apart_are_tied() -> None:
    world = World(np.random.default_rng(0), tasks=200, run_luck=0.01)
    experiment = world.experiment({"best": 0.6, "near": 0.6, "far": 0.3})
    choice = choose(experiment.arms, METRIC, "max")
    assert {choice.group, *choice.tied} == {"best", "near"}
    assert not choice.ranking[-1].tied


def test_arms_on_other_rows_are_compared_on_those_they_share() -> None:
    """`long` is the better only by two easy rows of its own."""
    arms = [arm("long", measurement([0.1, 0.2, 1.0, 1.0])), arm("short", measurement([0.3, 0.4]))]
    choice = choose(arms, METRIC, "max")
    assert (choice.group, choice.same_tasks, choice.mean.items) == ("short", False, 2)
    assert choice.mean.mean == pytest.approx(0.35)


def test_totals_alone_rank_too() -> None:
    arms = [arm(name, Measurement(step=1, metrics={METRIC: value})) for name, value in (("a", 0.3), ("b", 0.4))]
    assert choose(arms, METRIC, "max").group == "b"


def test_selection_can_reach_validation_only() -> None:
    """Arms hold no test results, and the choice is made of arms."""
    assert list(inspect.signature(choose).parameters) == ["arms", "metric", "goal"]
    assert not {name for name in ArmRecord.model_fields if "test" in name or "benchmark" in name}
