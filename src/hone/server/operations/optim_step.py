"""One optimizer step on the gathered gradients."""

import json

from hone.engine import contract
from hone.errors import UserError
from hone.protocol import requests
from hone.protocol.futures import success
from hone.server.journal import Entry
from hone.server.operations.handler import Concluded, Context


class OptimStep:
    def repeats(self, entry: Entry, context: Context) -> bool:
        return True

    async def prepare(self, entry: Entry, context: Context) -> contract.OptimStep:
        body = requests.parse(requests.OptimStep, json.loads(entry.payload))
        if body.optimizer_params is not None:
            raise UserError(
                f"optimizer_params of type {body.optimizer_params.type!r} do not fit a model made for 'adamw'; "
                "send adam_params"
            )
        if body.adam_params is None:
            raise UserError("adam_params is missing")
        return contract.OptimStep(entry.lane, body.adam_params.to_types())

    async def conclude(
        self, entry: Entry, operation: contract.OptimStep, result: dict[str, float], context: Context
    ) -> Concluded:
        return Concluded(success({"metrics": result, "type": "optim_step"}))
