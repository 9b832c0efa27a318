"""Limits on money. Work beyond one waits in its queue, whole and in order, until the limit is raised."""

import asyncio
import time
from functools import partial

from hone.identity import accounts
from hone.identity.prices import Prices
from hone.server.access import Access
from hone.server.auth import Keys
from hone.server.ids import session_of
from hone.server.usage import Filter, spent
from hone.storage.database import Database

LOOK_SECONDS = 1.0
"""How often waiting work looks whether its limit was raised."""


class Budgets:
    def __init__(self, database: Database, keys: Keys, access: Access, prices: Prices) -> None:
        self._database = database
        self._keys = keys
        self._access = access
        self._prices = prices
        self._budgets: dict[str, tuple[float, float | None]] = {}
        """Of projects, and until when they are taken for true."""
        self._over: dict[tuple[str, int], tuple[float, str]] = {}
        """Which limits were found to be reached, and until when nobody looks again: thousands may wait for one."""
        self._waiting: dict[str, str] = {}
        """Why the work of these models and samplers waits."""

    async def reached(self, lane: str, key_id: int | None) -> str | None:
        """Which limit keeps an operation from starting; None if none does. What has started is finished.

        An empty `lane` is work without a session, which belongs to the key's own project.
        """
        if key_id is None:
            return None
        until, reason = self._over.get((lane, key_id), (0.0, ""))
        if time.monotonic() < until:
            return reason
        self._over.pop((lane, key_id), None)
        caller = await self._keys.by_id(key_id)
        limits: list[tuple[str, float, Filter]] = []
        if caller is not None and caller.key.spend_limit_usd is not None:
            raised = f"hone key limit {key_id}"
            limits.append((raised, caller.key.spend_limit_usd, Filter(key_id=key_id)))
        of_key = None if caller is None else caller.key.project_id
        project_id = await self._access.project_of(session_of(lane)) if lane else of_key
        if project_id is not None and (budget := await self._budget(project_id)) is not None:
            limits.append((f"hone project budget {project_id}", budget, Filter(projects=[project_id])))
        for raised, limit, chosen in limits:
            so_far = await self._database.run(partial(spent, prices=self._prices, chosen=chosen))
            if so_far >= limit:
                reason = f"${so_far:.4f} of ${limit:.4f} are spent; the work goes on when `{raised}` allows more"
                self._over[lane, key_id] = time.monotonic() + LOOK_SECONDS, reason
                return reason
        return None

    async def room(self, lane: str, key_id: int | None) -> None:
        """Wait until no limit keeps an operation from starting."""
        try:
            while (reason := await self.reached(lane, key_id)) is not None:
                self._waiting[lane] = reason
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            self._waiting.pop(lane, None)

    def reason(self, lane: str) -> str | None:
        """Why the work of a model or a sampler waits; None if it does not."""
        return self._waiting.get(lane)

    async def _budget(self, project_id: str) -> float | None:
        until, budget = self._budgets.get(project_id, (0.0, None))
        if time.monotonic() >= until:
            found = await self._database.run(lambda connection: accounts.project(connection, project_id))
            budget = found.budget_usd
            self._budgets[project_id] = time.monotonic() + LOOK_SECONDS, budget
        return budget
