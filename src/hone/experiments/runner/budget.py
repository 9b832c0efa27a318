"""What an experiment may use: no arm begins that would exceed it, and those that run stop when it is used up."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from hone.experiments.config import BudgetConfig
from hone.experiments.records import Usage
from hone.experiments.runner.directory import write_json
from hone.experiments.runner.usage import tokens, total

SAVE_SECONDS = 2.0
NOTHING = Usage()
OF_BUDGET = "budget: "
"""What the reasons of this file begin with."""


class Budget:
    """Time counts while the experiment runs, over all its resumptions."""

    def __init__(self, config: BudgetConfig, file: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._config, self._file, self._clock = config, file, clock
        self._spent: dict[str, Usage] = {}
        self._expected: dict[str, Usage] = {}
        self._begun: set[str] = set()
        self._before = float(json.loads(file.read_text(encoding="utf-8"))["seconds"]) if file.exists() else 0.0
        self._started = self._saved = clock()

    @property
    def seconds(self) -> float:
        return self._before + self._clock() - self._started

    @property
    def spent(self) -> Usage:
        return total(list(self._spent.values())).model_copy(update={"seconds": self.seconds})

    def refusal(self, arm: str, expected: Usage = NOTHING) -> str | None:
        """Why the arm may not begin; if it may, what is expected of it is set aside."""
        config = self._config
        if arm not in self._begun and config.arms is not None and len(self._begun) >= config.arms:
            return f"{OF_BUDGET}{config.arms} arms have begun"
        if why := self.exceeded():
            return why
        ahead = total([self._left(name) for name in self._expected if name != arm])
        coming = expected.model_copy(update={"seconds": 0.0})
        for what, limit, used, wanted in (
            ("tokens", config.tokens, tokens(self.spent) + tokens(ahead), tokens(coming)),
            ("dollars", config.cost, self.spent.cost + ahead.cost, coming.cost),
            ("seconds", config.wall_time, self.seconds, expected.seconds),
        ):
            if limit is not None and used + wanted > limit:
                return (
                    f"{OF_BUDGET}{used:,.6g} of {limit:,.6g} {what} are used or set aside, "
                    f"and this arm is expected to take {wanted:,.6g}"
                )
        self._begun.add(arm)
        self._expected[arm] = expected
        return None

    def begun(self, arm: str) -> None:
        """Before an interruption."""
        self._begun.add(arm)

    def note(self, arm: str, usage: Usage) -> None:
        """What the arm has used so far."""
        self._spent[arm] = usage
        if self._clock() - self._saved >= SAVE_SECONDS:
            self.save()

    def ended(self, arm: str) -> None:
        self._expected.pop(arm, None)

    def save(self) -> None:
        self._saved = self._clock()
        write_json(self._file, {"seconds": self.seconds, "usage": self.spent.model_dump(mode="json")})

    def exceeded(self) -> str | None:
        """What is used up."""
        config, spent = self._config, self.spent
        for what, limit, used in (
            ("tokens", config.tokens, float(tokens(spent))),
            ("dollars", config.cost, spent.cost),
            ("seconds", config.wall_time, spent.seconds),
        ):
            if limit is not None and used >= limit:
                return f"{OF_BUDGET}{used:,.6g} of {limit:,.6g} {what} are used"
        return None

    def _left(self, arm: str) -> Usage:
        """Of what is expected of a running arm."""
        expected, spent = self._expected[arm], self._spent.get(arm, Usage())
        return Usage(
            training_tokens=max(0, tokens(expected) - tokens(spent)),
            cost=max(0.0, expected.cost - spent.cost),
        )
