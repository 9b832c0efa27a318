"""Keeps an engine running. Whoever loses an operation with the engine waits for the next one here and submits again."""

import asyncio
import logging
from typing import Any

from hone.engine.contract import Engine, Operation
from hone.errors import EngineLostError, ServerError

log = logging.getLogger(__name__)

ATTEMPTS = 8
"""Engines that one operation may lose before it is taken for the cause."""

RESTARTS = 5
"""Failed attempts in a row to start an engine, after which operations fail instead of waiting."""


class EngineKeeper:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.generation = 0
        """Counts engine processes. What was built in an engine of an older generation is gone."""
        self._running = asyncio.Event()
        self._running.set()
        self._broken: ServerError | None = None
        self._restarting: asyncio.Task[None] | None = None

    def submit(self, operation: Operation) -> "asyncio.Future[Any]":
        return self.engine.submit(operation)

    async def ask(self, operation: Operation) -> Any:
        """The result of an operation that depends on no adapter; from the next engine if this one is lost meanwhile."""
        for _ in range(ATTEMPTS):
            await self.running()
            generation = self.generation
            try:
                return await self.submit(operation)
            except EngineLostError as error:
                self.lost(generation)
                lost = error
        raise lost

    def lost(self, generation: int) -> None:
        """Say that an operation submitted in `generation` was lost; the first to say so starts the next engine."""
        if generation == self.generation and self._broken is None:
            self.generation += 1
            self._running.clear()
            self._restarting = asyncio.create_task(self._restart(), name="engine restart")

    async def running(self) -> None:
        """Wait until there is an engine; raises `ServerError` when there will be none."""
        await self._running.wait()
        if self._broken is not None:
            raise self._broken

    @property
    def is_running(self) -> bool:
        """Whether operations are being worked on, rather than waiting for the next engine."""
        return self._running.is_set()

    @property
    def healthy(self) -> bool:
        return self._broken is None

    @property
    def ready(self) -> bool:
        return self._running.is_set()

    async def close(self) -> None:
        if self._restarting is not None:
            self._restarting.cancel()
        await self.engine.close()

    async def _restart(self) -> None:
        log.warning("the engine process ended; starting engine %d", self.generation)
        for attempt in range(RESTARTS):
            try:
                await self.engine.restart()
            except Exception:
                log.exception("engine %d did not start", self.generation)
                await asyncio.sleep(2**attempt)
            else:
                self._running.set()
                return
        self._broken = ServerError(
            f"the engine ended and could not be started again in {RESTARTS} attempts; see the log"
        )
        self._running.set()
