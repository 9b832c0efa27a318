"""Suggestions rest on numbers: each appears where they say so, and not elsewhere."""

import numpy as np
import pytest

from hone.experiments.next_steps import (
    extend_axes,
    find_harder_tasks,
    make_sure,
    mend_failures,
    part_ties,
    watch_the_curve,
)
from hone.experiments.records import ExperimentRecord, Measurement
from hone.experiments.selection import Choice, choose
from hone.experiments.statistics import Evidence, Spread
from tests.support.experiment_records import METRIC, World, arm, failed_arm, measurement, record

RATE = "algorithm.params.lr"


def chosen(experiment: ExperimentRecord) -> Choice:
    return choose(experiment.arms, METRIC, experiment.goal)


def swept(values: dict[float, float], path: str = RATE) -> ExperimentRecord:
    world = World(np.random.default_rng(0), run_luck=0.001)
    return record(
        [one for value, truth in values.items() for one in world.group(f"at-{value:g}", truth, 3, cell={path: value})]
    )


@pytest.mark.parametrize(
    ("values", "beyond"),
    [
        ({1e-5: 0.3, 2e-5: 0.5, 4e-5: 0.7}, 8e-5),
        ({1e-5: 0.7, 1e-4: 0.5, 1e-3: 0.3}, 1e-6),
        ({8: 0.3, 16: 0.6}, 32),
        ({5: 0.3, 6: 0.6}, 7),
        ({0.0: 0.3, 0.1: 0.6}, 0.2),
    ],
)
def test_the_best_value_at_an_edge_asks_for_the_next_one(values: dict[float, float], beyond: float) -> None:
    experiment = swept(values)
    (found,) = extend_axes(experiment, chosen(experiment))
    assert found.values == {"axis": RATE, "value": pytest.approx(beyond)}
    assert f"try {beyond:g}" in found.text


@pytest.mark.parametrize(
    "values",
    [{1e-5: 0.3, 2e-5: 0.7, 4e-5: 0.5}, {1e-5: 0.3}, {1: 0.7, 4: 0.3}, {0.0: 0.7, 0.1: 0.2}],
)
def test_a_best_value_inside_or_with_nothing_beyond_asks_for_none(values: dict[float, float]) -> None:
    """Below 1 there is no whole positive number, and below 0 none that goes on from 0 and 0.1 with sense."""
    experiment = swept(values)
    found = extend_axes(experiment, chosen(experiment))
    assert [one.values["value"] for one in found] == ([-0.1] if 0.0 in values else [])


def test_axes_that_are_not_numbers_have_no_edge() -> None:
    experiment = World(np.random.default_rng(0)).experiment({"sft": 0.3, "dpo": 0.6})
    assert extend_axes(experiment, chosen(experiment)) == []


def curve(
    truths: list[float], *, kept_step: int | None = None, noise: float = 0.05, **more: object
) -> ExperimentRecord:
    draw = np.random.default_rng(1)
    arms = []
    for seed in range(3):
        ease = draw.normal(0, 0.2, 80)
        moments = [
            measurement(truth + ease + draw.normal(0, noise, 80), step=10 * number)
            for number, truth in enumerate(truths)
        ]
        kept = {} if kept_step is None else {"kept_step": kept_step}
        arms.append(arm(f"a-s{seed}", *moments, group="a", seed=seed, **kept, **more))
    return record(arms)


def test_a_curve_that_still_rises_asks_for_more_steps() -> None:
    experiment = curve([0.2, 0.3, 0.4, 0.5])
    (found,) = watch_the_curve(experiment, chosen(experiment), METRIC)
    assert (found.kind, found.values) == ("longer", {"steps": 60})


def test_a_curve_that_is_flat_or_short_asks_for_nothing() -> None:
    for truths in ([0.2, 0.5, 0.5, 0.5, 0.5], [0.2, 0.5]):
        experiment = curve(truths)
        assert watch_the_curve(experiment, chosen(experiment), METRIC) == []


def test_less_is_better_turns_the_curve() -> None:
    experiment = curve([0.5, 0.4, 0.3, 0.2]).model_copy(update={"goal": "min"})
    assert watch_the_curve(experiment, chosen(experiment), METRIC)[0].kind == "longer"
    worse = curve([0.5, 0.2, 0.3, 0.4]).model_copy(update={"goal": "min"})
    assert watch_the_curve(worse, chosen(worse), METRIC)[0].kind == "overfitting"


def test_a_curve_that_fell_asks_to_keep_the_best() -> None:
    experiment = curve([0.2, 0.6, 0.5, 0.3])
    (found,) = watch_the_curve(experiment, chosen(experiment), METRIC)
    assert found.values == {"best_step": 10, "last_step": 30, "validation.keep": "best"}
    kept = curve([0.2, 0.6, 0.5, 0.3], kept_step=10)
    assert "The best checkpoint was kept" in watch_the_curve(kept, chosen(kept), METRIC)[0].text


def test_arms_that_were_stopped_say_nothing_about_their_end() -> None:
    experiment = curve([0.2, 0.3, 0.4, 0.5], training="stopped")
    assert watch_the_curve(experiment, chosen(experiment), METRIC) == []


def test_one_run_asks_for_seeds_first() -> None:
    (found,) = make_sure(Evidence(0.1, Spread(0, 0, 0.01, 99, 0), 100, (1, 1)), 0.0, 1)
    assert found.values == {"repeats.n": 3}


def test_a_wide_interval_says_how_much_more_is_needed() -> None:
    runs = make_sure(Evidence(0.03, Spread(0.0004, 4, 1e-6, 99, 0), 100, (3, 3)), 0.0, 1)
    assert [one.kind for one in runs] == ["runs"]
    assert runs[0].values["repeats.n"] > 3
    tasks = make_sure(Evidence(0.03, Spread(1e-6, 4, 0.0004, 99, 0), 100, (3, 3)), 0.0, 1)
    assert [one.kind for one in tasks] == ["tasks"]
    assert tasks[0].values["validation.limit"] > 100
    both = make_sure(Evidence(0.03, Spread(0.0002, 4, 0.0002, 99, 0), 100, (3, 3)), 0.0, 1)
    assert [one.kind for one in both] == ["runs_and_tasks"]
    assert make_sure(Evidence(0.0, Spread(0.0002, 4, 0.0002, 99, 0), 100, (3, 3)), 0.0, 1) == []


def test_failures_are_gathered_by_reason() -> None:
    arms = [failed_arm("a", "no rows"), failed_arm("b", "out of memory"), failed_arm("c", "no rows")]
    found = mend_failures(record(arms))
    assert [one.values for one in found] == [
        {"arms": ["a", "c"], "reason": "no rows"},
        {"arms": ["b"], "reason": "out of memory"},
    ]


def test_solved_tasks_ask_for_harder_ones() -> None:
    solved = record([arm("a", measurement([1.0] * 5)), arm("b", measurement([0.5] * 5))])
    assert find_harder_tasks(chosen(solved))[0].values == {"groups": ["a"]}
    assert find_harder_tasks(chosen(record([arm("b", measurement([0.5] * 5))]))) == []


def test_ties_say_what_would_part_them() -> None:
    tied = World(np.random.default_rng(3)).experiment({"a": 0.5, "b": 0.505})
    found = part_ties(tied, chosen(tied))
    assert found
    assert "are not told apart" in found[0].text
    clear = World(np.random.default_rng(3)).experiment({"a": 0.5, "b": 0.9})
    assert part_ties(clear, chosen(clear)) == []


def test_curves_without_scores_by_task_are_left_alone() -> None:
    moments = [Measurement(step=step, metrics={METRIC: step / 10}) for step in range(4)]
    experiment = record([arm("a", *moments)])
    assert watch_the_curve(experiment, chosen(experiment), METRIC) == []
