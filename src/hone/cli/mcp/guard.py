"""What runs that an agent starts may use: the smaller of the file's budget and of what the server was told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BUDGET_KEYS = {"tokens": "tokens", "cost": "dollars", "wall_time": "seconds"}
"""Of `budget:` in the file, with the unit."""


def expected(estimate: Mapping[str, Any]) -> dict[str, float]:
    """The most that an estimate says, by the keys of a budget."""
    most = estimate["most"]
    found = {
        "tokens": most["training_tokens"] + most["prefill_tokens"] + most["sample_tokens"],
        "cost": most["cost"],
    }
    return found if estimate["seconds"] is None else found | {"wall_time": estimate["seconds"]}


@dataclass(frozen=True)
class Limits:
    """Of the server. None: whatever the file's budget says."""

    tokens: int | None = None
    cost: float | None = None
    wall_time: float | None = None

    def with_budget(self, budget: Mapping[str, Any]) -> dict[str, float]:
        """The limits on one run: of the file's and the server's the smaller, where there is one."""
        found = {}
        for key in BUDGET_KEYS:
            given = [one for one in (budget.get(key), getattr(self, key)) if one is not None]
            if given:
                found[key] = min(given)
        return found

    def refusal(self, budget: Mapping[str, Any], estimate: Mapping[str, float]) -> str | None:
        """Why a run must not start, if it must not. `estimate` has the keys of a budget."""
        if not (limits := self.with_budget(budget)):
            return (
                "the experiment has no budget, and this server was given no limits: add `budget: {tokens: ...}` to the "
                "file (ask the user how much), or start the server with --max-tokens, --max-cost or --max-seconds"
            )
        over = [
            f"{estimate[key]:,.6g} {unit} are expected and {limits[key]:,.6g} allowed"
            for key, unit in BUDGET_KEYS.items()
            if key in limits and estimate.get(key, 0.0) > limits[key]
        ]
        if not over:
            return None
        return f"{'; '.join(over)}. Make the experiment smaller; raise a budget only if the user says so"

    def overrides(self, budget: Mapping[str, Any]) -> list[str]:
        """The limits as `--set` values, so that the run itself keeps to them."""
        return [f"budget.{key}={limit}" for key, limit in self.with_budget(budget).items()]
