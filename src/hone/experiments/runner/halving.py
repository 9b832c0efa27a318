"""Successive halving: at each rung the arms that still train wait for each other, and the worse ones stop.

Jamieson and Talwalkar 2016, arXiv 1502.07943. Repeats of one arm go or stop together, by the mean of their values.
Decisions are journalled before anybody hears of them, so a resumed experiment repeats them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from statistics import fmean

from hone.experiments.config import Goal, HalvingConfig
from hone.experiments.runner.directory import identity
from hone.experiments.runner.journal import Journal


class Gate:
    def __init__(self, config: HalvingConfig, groups: Mapping[str, str], goal: Goal, journal: Journal) -> None:
        """`groups` has every arm that takes part, with its group."""
        self._config, self._groups, self._goal, self._journal = config, dict(groups), goal, journal
        self._name = identity(config.model_dump(mode="json"))
        self._training = set(groups)
        self._reported: dict[int, dict[str, float | None]] = {rung: {} for rung in config.rungs}
        self._stopped: dict[int, set[str]] = {
            event["rung"]: set(event["stopped"]) for event in journal.of("halving") if event["gate"] == self._name
        }
        self._decided = {rung: asyncio.Event() for rung in config.rungs}

    def is_rung(self, step: int) -> bool:
        return step in self._reported

    async def passes(self, arm: str, rung: int, value: float | None) -> bool:
        """Whether the arm goes on, once all others have come this far or ended. A value of None is the worst."""
        if rung not in self._stopped:
            self._reported[rung][arm] = value
            self._decide_if_complete()
            await self._decided[rung].wait()
        return self._groups[arm] not in self._stopped[rung]

    def leave(self, arm: str) -> None:
        """The arm has ended, and nobody has to wait for it."""
        self._training.discard(arm)
        self._decide_if_complete()

    def _decide_if_complete(self) -> None:
        for rung, reported in self._reported.items():
            if rung not in self._stopped and reported and self._training <= reported.keys():
                self._decide(rung, reported)

    def _decide(self, rung: int, reported: Mapping[str, float | None]) -> None:
        values = {
            group: _mean([value for arm, value in reported.items() if self._groups[arm] == group])
            for group in dict.fromkeys(self._groups.values())
            if any(self._groups[arm] == group for arm in reported)
        }
        keep = max(1, int(len(values) * self._config.keep + 1e-9))
        sign = -1.0 if self._goal == "max" else 1.0
        # Equal values: the one that stands first in the file goes on.
        ranked = sorted(values, key=lambda group: (values[group] is None, sign * (values[group] or 0.0)))
        stopped = ranked[keep:]
        self._journal.note("halving", gate=self._name, rung=rung, values=values, stopped=stopped)
        self._stopped[rung] = set(stopped)
        self._decided[rung].set()


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
