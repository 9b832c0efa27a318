"""Answers on their way to clients that wait for one, or for all of a sampling session. Nothing here polls."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable
from typing import Any

from hone.observe import spans
from hone.protocol.futures import Outcome
from hone.server import ids
from hone.server.journal import Completion, Journal

log = logging.getLogger(__name__)

COMPLETIONS_AT_ONCE = 2048
"""In one answer to a poll for many; the rest comes with the next one."""


class Futures:
    def __init__(self, journal: Journal, grace_seconds: float) -> None:
        self._journal = journal
        self._grace_seconds = grace_seconds
        self._waiting: dict[str, asyncio.Future[Outcome]] = {}
        self._pollers: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        """Those who wait for any answer of a lane."""
        self._closing = False
        self._limits: set[asyncio.Timeout] = set()
        """Of all waits under way."""

    def expect(self, request_id: str) -> "asyncio.Future[Outcome]":
        """The answer to an accepted request, now or later."""
        if request_id not in self._waiting:
            self._waiting[request_id] = asyncio.get_running_loop().create_future()
        return self._waiting[request_id]

    def resolve(self, request_id: str, outcome: Outcome, stored: "asyncio.Future[Any]") -> None:
        """Hand the answer to everyone who waits. Once it is `stored`, it stays in memory for a grace time only."""
        spans.answered(request_id, outcome.failed)
        future = self.expect(request_id)
        if not future.done():
            future.set_result(outcome)
        stored.add_done_callback(lambda _: self._forget_later(request_id, stored))

    def _forget_later(self, request_id: str, stored: "asyncio.Future[Any]") -> None:
        if stored.cancelled():
            return
        if (error := stored.exception()) is not None:
            log.error("the answer to %s could not be kept: %s", request_id, error)
        else:
            for poller in self._pollers.get(ids.lane_of(request_id), ()):
                poller.set()
            asyncio.get_running_loop().call_later(self._grace_seconds, self._waiting.pop, request_id, None)

    async def retrieve(self, request_id: str, seconds: float) -> Outcome | None:
        """The answer, as soon as there is one; None if there is none after `seconds`."""
        if request_id not in self._waiting:
            stored = await self._journal.outcome(request_id)
            if stored is not None:
                return stored
        future = self.expect(request_id)
        if not future.done():
            await self._wait(asyncio.shield(future), seconds)
        return future.result() if future.done() else None

    async def completed(self, lane: str, clone: int, after: int, seconds: float) -> list[Completion]:
        """The answers that one client of a sampling session got after number `after`, as soon as there are any; none
        if there are none after `seconds`. The database has them, so a client may go on where it was after a restart."""
        first, end = ids.clone_range(clone)
        until = asyncio.get_running_loop().time() + seconds
        poller = asyncio.Event()
        self._pollers[lane].add(poller)
        try:
            while True:
                poller.clear()
                found = await self._journal.completions(lane, first, end, after, COMPLETIONS_AT_ONCE)
                left = until - asyncio.get_running_loop().time()
                if found or left <= 0 or not await self._wait(poller.wait(), left):
                    return found
        finally:
            self._pollers[lane].discard(poller)
            if not self._pollers[lane]:
                del self._pollers[lane]

    async def _wait(self, awaited: Awaitable[Any], seconds: float) -> bool:
        """Whether it happened within `seconds`, and before the server stops."""
        try:
            async with asyncio.timeout(0 if self._closing else seconds) as limit:
                self._limits.add(limit)
                await awaited
        except TimeoutError:
            return False
        finally:
            self._limits.discard(limit)
        return True

    def release(self) -> None:
        """Let every waiting poll go unanswered, so that the server can stop."""
        self._closing = True
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(asyncio.get_running_loop().time())
