"""Losses that clients trace and upload. The journal keeps each of them as it came; the engine says whether it runs it.

A loss has the name of the request that made it, and belongs to its session.
"""

import asyncio
import json
import logging
from dataclasses import dataclass, field

from hone.engine.contract import CheckLoss
from hone.errors import EngineLostError, HoneError, UserError
from hone.protocol import requests
from hone.protocol.futures import Outcome, failure_of, success
from hone.protocol.types import CustomLoss
from hone.server import ids
from hone.server.futures import Futures
from hone.server.journal import Entry, Journal
from hone.server.recovery import ATTEMPTS, EngineKeeper

log = logging.getLogger(__name__)

KIND = "create_custom_loss"


@dataclass(frozen=True)
class CustomLosses:
    journal: Journal
    futures: Futures
    keeper: EngineKeeper
    under_way: "set[asyncio.Task[None]]" = field(default_factory=set)

    async def submit(self, entry: Entry) -> str:
        """Accept a loss; returns its request id, the same for the same submission."""
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
            await self._check(_loss(entry))
            outcome: Outcome = success({"loss_id": entry.request_id, "type": KIND})
        except Exception as error:
            if not isinstance(error, HoneError):
                log.exception("%s failed", entry.request_id)
            outcome = failure_of(error)
        self.futures.resolve(entry.request_id, outcome, self.journal.finish(entry, outcome))

    async def _check(self, loss: CustomLoss) -> None:
        for _ in range(ATTEMPTS):
            await self.keeper.running()
            generation = self.keeper.generation
            try:
                await self.keeper.submit(CheckLoss(loss))
                return
            except EngineLostError as error:
                self.keeper.lost(generation)
                lost = error
        raise lost


async def stored_loss(loss_id: object, session_id: str, journal: Journal) -> CustomLoss:
    """A loss of this session, by the id that its creation was answered with."""
    lane, _, number = str(loss_id).rpartition(":")
    if lane == ids.losses_lane(session_id) and number.isdecimal() and len(number) < 19:
        for past in await journal.history(lane, int(number) - 1, int(number)):
            if past.failed is False:
                return _loss(past.entry)
    raise UserError(f"loss_id {loss_id!r} is no custom loss of this session; make it with create_custom_loss")


def _loss(entry: Entry) -> CustomLoss:
    body = requests.parse(requests.CreateCustomLoss, json.loads(entry.payload))
    return CustomLoss(body.name, tuple((one.name, one.rank) for one in body.inputs), json.dumps(body.graph))
