"""What an experiment may use."""

from pathlib import Path

from hone.experiments.config import BudgetConfig
from hone.experiments.records import Usage
from hone.experiments.runner.budget import Budget


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def tokens(count: int, cost: float = 0.0) -> Usage:
    return Usage(training_tokens=count, cost=cost)


def test_no_arm_begins_that_would_exceed_it_while_others_run(tmp_path: Path) -> None:
    budget = Budget(BudgetConfig(tokens=100), tmp_path / "spent.json")
    assert budget.refusal("a", tokens(40)) is None
    budget.note("a", tokens(10))
    assert budget.refusal("b", tokens(40)) is None
    why = budget.refusal("c", tokens(40))  # 10 are used, 30 and 40 set aside
    assert why is not None
    assert "100 tokens" in why
    assert "80" in why
    budget.note("a", tokens(20))
    budget.ended("a")  # for less than was expected
    assert budget.refusal("c", tokens(40)) is None


def test_it_is_exceeded_when_it_is_used_up(tmp_path: Path) -> None:
    budget = Budget(BudgetConfig(tokens=100, cost=1.0), tmp_path / "spent.json")
    budget.note("a", tokens(60))
    budget.note("b", tokens(39))
    assert budget.exceeded() is None
    budget.note("b", tokens(39, cost=1.0))
    assert "dollars" in str(budget.exceeded())
    budget.note("b", tokens(40))
    assert "100 of 100 tokens" in str(budget.exceeded())


def test_time_counts_over_interruptions(tmp_path: Path) -> None:
    clock = Clock()
    budget = Budget(BudgetConfig(wall_time=60), tmp_path / "spent.json", clock)
    clock.now += 45
    budget.save()
    clock.now += 1000  # nothing runs
    again = Budget(BudgetConfig(wall_time=60), tmp_path / "spent.json", clock)
    assert again.seconds == 45
    assert again.exceeded() is None
    assert again.refusal("a", Usage(seconds=20)) is not None
    clock.now += 15
    assert again.exceeded() is not None


def test_an_arm_that_has_begun_goes_on_after_an_interruption(tmp_path: Path) -> None:
    budget = Budget(BudgetConfig(arms=2), tmp_path / "spent.json")
    budget.begun("a")
    assert budget.refusal("b") is None
    assert budget.refusal("c") == "budget: 2 arms have begun"
    assert budget.refusal("a") is None
