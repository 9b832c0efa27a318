"""Losses that clients trace and upload. The journal keeps each of them as it came; the engine says whether it runs it.

A loss has the name of the request that made it, and belongs to its session.
"""

import json
from dataclasses import dataclass
from typing import Any

from hone.engine.contract import CheckLoss
from hone.errors import UserError
from hone.protocol import requests
from hone.protocol.types import CustomLoss
from hone.server import ids
from hone.server.journal import Entry, Journal
from hone.server.recovery import EngineKeeper

KIND = "create_custom_loss"


@dataclass(frozen=True)
class CustomLosses:
    keeper: EngineKeeper

    async def run(self, entry: Entry) -> dict[str, Any]:
        await self.keeper.ask(CheckLoss(_loss(entry)))
        return {"loss_id": entry.request_id, "type": KIND}


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
