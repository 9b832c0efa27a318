"""Answers on their way to clients that wait for them. Nothing here polls."""

import asyncio
import logging
from typing import Any

from hone.protocol.futures import Outcome
from hone.server.journal import Journal

log = logging.getLogger(__name__)


class Futures:
    def __init__(self, journal: Journal, grace_seconds: float) -> None:
        self._journal = journal
        self._grace_seconds = grace_seconds
        self._waiting: dict[str, asyncio.Future[Outcome]] = {}
        self._closing = asyncio.Event()

    def expect(self, request_id: str) -> "asyncio.Future[Outcome]":
        """The answer to an accepted request, now or later."""
        if request_id not in self._waiting:
            self._waiting[request_id] = asyncio.get_running_loop().create_future()
        return self._waiting[request_id]

    def resolve(self, request_id: str, outcome: Outcome, stored: "asyncio.Future[Any]") -> None:
        """Hand the answer to everyone who waits. Once it is `stored`, it stays in memory for a grace time only."""
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
            asyncio.get_running_loop().call_later(self._grace_seconds, self._waiting.pop, request_id, None)

    async def retrieve(self, request_id: str, seconds: float) -> Outcome | None:
        """The answer, as soon as there is one; None if there is none after `seconds`."""
        if request_id not in self._waiting:
            stored = await self._journal.outcome(request_id)
            if stored is not None:
                return stored
        future = self.expect(request_id)
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            waited: set[asyncio.Future[Any]] = {future, closing}
            await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            closing.cancel()
        return future.result() if future.done() else None

    def release(self) -> None:
        """Let every waiting poll go unanswered, so that the server can stop."""
        self._closing.set()
