import re
from xml.etree import ElementTree

import pytest

from hone.experiments.report.svg import Point, Scale, Series, curves, forest, sweep, ticks


@pytest.mark.parametrize(
    ("low", "high", "marks"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.31, 0.42, [0.32, 0.34, 0.36, 0.38, 0.4, 0.42]),
        (0, 60, [0, 10, 20, 30, 40, 50, 60]),
        (-3.2, 0.1, [-3, -2, -1, 0]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round_and_within(low: float, high: float, marks: list[float]) -> None:
    assert ticks(low, high) == marks


def test_a_scale_maps_ends_to_ends() -> None:
    plain, log = Scale(0, 10, 100, 200), Scale(1, 100, 200, 100, log=True)
    assert (plain(0), plain(2.5), plain(10)) == (100, 125, 200)
    assert (log(1), log(10), log(100)) == (200, 150, 100)


def test_bands_and_lines_stand_where_their_values_are() -> None:
    series = [Series("a & b", (Point(0, 1.0, 0.9, 1.1), Point(10, 2.0, 1.9, 2.1)))]
    drawn = ElementTree.fromstring(curves(series, title="t", x_label="steps", y_label="<m>"))
    line = next(one for one in drawn.iter("polyline"))
    (x1, y1), (x2, y2) = (map(float, pair.split(",")) for pair in (line.get("points") or "").split())
    assert x1 < x2
    assert y1 > y2
    band = [tuple(map(float, pair.split(","))) for pair in (next(drawn.iter("polygon")).get("points") or "").split()]
    assert [x for x, _ in band] == [x1, x2, x2, x1]
    assert band[0][1] < y1 < band[3][1]
    assert (line.find("title") is not None, drawn.get("aria-label")) == (True, "t")


def test_an_axis_over_decades_is_logarithmic() -> None:
    points = tuple(Point(x, 1.0, 0.5, 1.5) for x in (1e-5, 1e-4, 1e-3))
    drawn = sweep([Series("a", points)], title="t", x_label="lr", y_label="m")
    at = [float(x) for x in re.findall(r'<circle[^>]* cx="([\d.]+)"', drawn)]
    assert at[1] - at[0] == pytest.approx(at[2] - at[1], abs=0.2)
    assert "lr (log)" in drawn
    plain = sweep([Series("a", (Point(8, 1.0), Point(16, 1.0)))], title="t", x_label="rank", y_label="m")
    assert "(log)" not in plain
    ElementTree.fromstring(plain)


def test_rows_of_a_forest_are_ordered_and_bounded() -> None:
    drawn = forest([("<x>", Point(0.5, 0, 0.4, 0.6)), ("y" * 60, Point(0.2, 0))], title="t", x_label="m")
    tree = ElementTree.fromstring(drawn)
    assert len([one for one in tree.iter("line") if (one.get("class") or "").startswith("bar")]) == 1
    assert "&lt;x&gt;" in drawn
    assert "…" in drawn
