import math
from xml.etree import ElementTree

import pytest

from hone.cli.demo.curves import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Series, chart, nice_ceiling, smooth


def polylines(svg: str) -> list[list[tuple[float, float]]]:
    lines = ElementTree.fromstring(svg).findall("polyline")
    return [[tuple(map(float, point.split(","))) for point in line.attrib["points"].split()] for line in lines]  # type: ignore[misc]


def test_the_extremes_lie_on_the_corners() -> None:
    svg = chart([Series("a", ((0, 0), (10, 2)))], x_label="x", y_label="y")
    assert polylines(svg) == [[(LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, TOP)]]


def test_a_value_that_is_not_finite_leaves_a_gap() -> None:
    points = ((0, 1), (1, 1), (2, math.nan), (3, 1), (4, 1))
    assert [len(line) for line in polylines(chart([Series("a", points)], x_label="x", y_label="y"))] == [2, 2]


def test_names_are_escaped() -> None:
    ElementTree.fromstring(chart([Series("<&>", ((0, 1), (1, 1)))], x_label="a<b", y_label='"q"'))


def test_no_points_still_make_a_chart() -> None:
    assert polylines(chart([Series("a", ())], x_label="x", y_label="y")) == []


@pytest.mark.parametrize(
    ("value", "top"), [(0.0, 1.0), (0.93, 1.0), (1.0, 1.0), (1.1, 1.2), (37, 40), (0.021, 0.024), (61, 80)]
)
def test_axes_end_at_round_numbers(value: float, top: float) -> None:
    assert nice_ceiling(value) == pytest.approx(top)


def test_smoothing_looks_back_only() -> None:
    assert smooth([1, 2, 3, 10], 2) == [1, 1.5, 2.5, 6.5]
