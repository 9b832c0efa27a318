"""When an arm stops, and which checkpoint is best."""

import pytest

from hone.experiments.config import Goal
from hone.experiments.records import Measurement
from hone.experiments.runner.validation import best_step, is_exhausted


@pytest.mark.parametrize(
    ("values", "goal", "min_delta", "exhausted"),
    [
        ([1.0, 2.0], "max", 0.0, False),
        ([1.0, 0.9, 0.8], "max", 0.0, True),
        ([1.0, 0.9, 0.8], "min", 0.0, False),
        ([1.0, 0.9, 1.1], "max", 0.0, False),
        ([1.0, 1.0, 1.0], "max", 0.0, True),
        ([1.0, 1.05, 1.08], "max", 0.1, True),
        ([1.0, 1.2, 1.25, 1.28], "max", 0.1, True),
        ([1.0, 1.2, 1.25, 1.31], "max", 0.1, False),
    ],
)
def test_an_arm_has_two_measurements_to_improve(
    values: list[float], goal: Goal, min_delta: float, exhausted: bool
) -> None:
    assert is_exhausted(values, goal, 2, min_delta) is exhausted


def test_the_best_of_the_saved_steps_and_the_earlier_of_equal_ones() -> None:
    found = [Measurement(step=step, metrics={"m": value}) for step, value in ((0, 9.0), (2, 3.0), (4, 5.0), (6, 5.0))]
    assert best_step(found, "m", "max", [2, 4, 6]) == 4
    assert best_step(found, "m", "min", [2, 4, 6]) == 2
    assert best_step(found, "m", "max", [8]) is None
