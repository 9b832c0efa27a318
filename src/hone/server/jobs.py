"""Requests that run on their own, in no model's order: accepted once, answered once, taken up again after a restart."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from hone.errors import HoneError
from hone.protocol.futures import Outcome, failure_of, success
from hone.server.futures import Futures
from hone.server.journal import Entry, Journal

log = logging.getLogger(__name__)

Work = Callable[[Entry], Awaitable[dict[str, Any]]]
"""Does what an entry asks and returns the fields of its answer. After a crash it is done again, so twice is fine."""


@dataclass(frozen=True)
class Jobs:
    journal: Journal
    futures: Futures
    work: dict[str, Work]
    """By kind of entry."""
    under_way: "set[asyncio.Task[None]]" = field(default_factory=set)

    async def submit(self, entry: Entry) -> str:
        """Accept a request; returns its request id, the same for the same submission."""
        await asyncio.shield(self._accept(entry))
        return entry.request_id

    async def _accept(self, entry: Entry) -> None:
        if await self.journal.accept(entry):
            self.futures.expect(entry.request_id)
            self.start(entry)

    def start(self, entry: Entry) -> None:
        task = asyncio.create_task(self._see_through(entry))
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)

    async def stop(self) -> None:
        """Drop everything under way; the journal has it."""
        tasks = list(self.under_way)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _see_through(self, entry: Entry) -> None:
        try:
            outcome: Outcome = success(await self.work[entry.kind](entry))
        except Exception as error:
            if not isinstance(error, HoneError):
                log.exception("%s failed", entry.request_id)
            outcome = failure_of(error)
        self.futures.resolve(entry.request_id, outcome, self.journal.finish(entry, outcome))
