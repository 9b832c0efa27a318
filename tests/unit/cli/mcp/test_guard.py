"""The budget guard of the MCP server: an agent may spend what the file and the server both allow."""

import pytest

from hone.cli.mcp.guard import Limits

SMALL = {"tokens": 900, "cost": 0.5, "wall_time": 60.0}


@pytest.mark.parametrize(
    ("limits", "budget", "refused"),
    [
        (Limits(), {"tokens": 1000}, False),
        (Limits(), {"tokens": 800}, True),
        (Limits(tokens=1000), {}, False),
        (Limits(tokens=800), {}, True),
        (Limits(tokens=800), {"tokens": 5000}, True),  # the file cannot raise what the server allows
        (Limits(tokens=5000), {"tokens": 800}, True),
        (Limits(cost=0.4), {"tokens": 1000}, True),
        (Limits(), {"wall_time": 30}, True),
        (Limits(), {"arms": 3}, True),  # says nothing of what they take
        (Limits(), {"tokens": None, "cost": None, "wall_time": None}, True),
    ],
)
def test_refusals(limits: Limits, budget: dict[str, float], refused: bool) -> None:
    assert (limits.refusal(budget, SMALL) is not None) == refused


def test_a_refusal_says_how_much_was_asked_and_allowed() -> None:
    said = Limits(tokens=800).refusal({"cost": 0.1}, SMALL)
    assert said is not None
    assert "900 tokens are expected and 800 allowed" in said
    assert "0.5 dollars are expected and 0.1 allowed" in said
    assert "no budget" in (Limits().refusal({}, SMALL) or "")


def test_what_runs_is_told_the_smaller_of_both() -> None:
    given = {"tokens": 1000, "cost": 2.0, "wall_time": None, "arms": 3}
    assert Limits(tokens=5000, cost=0.5, wall_time=60).overrides(given) == [
        "budget.tokens=1000",
        "budget.cost=0.5",
        "budget.wall_time=60",
    ]
