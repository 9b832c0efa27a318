import math

import pytest

from hone.experiments.wording import count, interval, listed, number, p_value, seconds


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [
        (0.61234, 0.041, "0.612"),
        (0.61234, 0.41, "0.61"),
        (0.6, 4.0, "0.6"),
        (123456.7, 1500.0, "123,457"),
        (0.00123456, None, "0.00123"),
        (123456.7, None, "123,457"),
        (math.nan, None, "?"),
        (None, None, "?"),
        (0.5, math.inf, "0.5"),
        (0.5, 0.0, "0.5"),
    ],
)
def test_a_number_has_the_digits_that_its_interval_leaves(value: float | None, half: float | None, text: str) -> None:
    assert number(value, half) == text


def test_intervals_say_what_is_not_known() -> None:
    assert interval(0.6123, 0.5713, 0.6533) == "0.612 (0.571 to 0.653)"
    assert interval(0.6123, None, None) == "0.612 (no interval)"


def test_words() -> None:
    assert (p_value(0.00001), p_value(0.0234)) == ("p < 0.001", "p = 0.023")
    assert (count(1, "arm"), count(1200, "arm"), count(2, "repeat of it", "repeats of it")) == (
        "1 arm",
        "1,200 arms",
        "2 repeats of it",
    )
    assert (listed([]), listed(["a"]), listed(["a", "b", "c"])) == ("", "a", "a, b and c")
    assert listed([str(n) for n in range(9)], most=3) == "0, 1, 2 and 6 more"
    assert (seconds(45.2), seconds(600), seconds(10_000)) == ("45 s", "10 min", "2.8 h")
