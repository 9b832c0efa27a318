"""Each reason to doubt is said where the record has it."""

import numpy as np

from hone.experiments.conclusion import conclude
from hone.experiments.records import BenchmarkResult, Opening
from tests.support.experiment_records import World, arm, failed_arm, measurement, record


def test_what_is_to_be_doubted_is_said() -> None:
    arms = [
        arm("a-s0", measurement([0.5, 0.6]), group="a"),
        failed_arm("a-s1", group="a"),
        arm("b", measurement([0.4, 0.9]), measurement([0.3, 0.3], step=20), kept_step=10, training="stopped"),
        arm("c", training="running", evaluation="waiting"),
    ]
    opening = Opening(
        benchmark="sealed", who="x", when="2026", why="y", arms=["a"], fingerprint="f", overlap_waiver="names only"
    )
    found = conclude(record(arms, openings=[opening, opening]))
    kinds = {one.kind for one in found.caveats}
    assert {"one_run", "lost_repeats", "kept_best", "stopped", "unfinished"} <= kinds
    assert {"waived_overlap", "several_openings", "few_tasks", "no_test"} <= kinds
    assert "names only" in found.as_text()


def test_a_sound_experiment_has_only_the_caveat_of_its_choice() -> None:
    found = conclude(World(np.random.default_rng(0)).experiment({"a": 0.5, "b": 0.8}))
    assert {one.kind for one in found.caveats} == {"no_test"}


def test_answers_that_could_not_be_graded_are_counted() -> None:
    found = conclude(record([arm("a", measurement([0.5] * 30, failures={"the judge did not answer": 3}))]))
    (told,) = [one.text for one in found.caveats if one.kind == "ungraded"]
    assert told == "3 answers of validation and tests came to nothing, which counts as 0: 3 the judge did not answer."


def test_failures_of_a_test_are_said() -> None:
    result = BenchmarkResult(
        benchmark="exam", subject="a", measurement=measurement([0.5] * 30, failures={"cut_off": 2, "ungraded": 1})
    )
    arms = [arm("a", measurement([0.5] * 30)), arm("b", measurement([0.5] * 30))]
    found = conclude(record(arms, benchmarks=[result], failed_benchmarks={"other": "nobody answers"}))
    text = found.as_text()
    assert "3 answers of validation and tests came to nothing, which counts as 0: 2 cut off, 1 ungraded." in text
    assert "The test other lacks results: nobody answers." in text
    assert "no_test" not in {one.kind for one in found.caveats}


def test_other_rows_on_the_two_sides_are_said() -> None:
    world = World(np.random.default_rng(0))
    first, second = world.experiment({"a": 0.5, "b": 0.8}, 1).arms
    renamed = [
        one.model_copy(update={"task": f"u{n}"}) for n, one in enumerate(second.validation[0].tasks["mean_reward"])
    ]
    moved = second.validation[0].model_copy(update={"tasks": {"mean_reward": renamed}})
    found = conclude(record([first, second.model_copy(update={"validation": [moved]})]))
    assert "other_tasks" in {one.kind for one in found.caveats}
