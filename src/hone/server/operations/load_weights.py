"""A checkpoint loaded over an existing model: how older clients resume."""

import json

from sqlalchemy import Connection

from hone.engine import contract
from hone.errors import UserError
from hone.protocol import requests
from hone.protocol.futures import success
from hone.server.journal import Entry
from hone.server.operations.create_by_load import training_checkpoint
from hone.server.operations.handler import Concluded, Context
from hone.server.store import change_run_lora


class LoadWeights:
    def repeats(self, entry: Entry, context: Context) -> bool:
        return True

    async def prepare(self, entry: Entry, context: Context) -> contract.LoadAdapter:
        body = requests.parse(requests.LoadWeights, json.loads(entry.payload))
        run = await context.store.run(entry.lane)
        checkpoint = await training_checkpoint(body.path, context)
        if checkpoint.base_model != run.base_model:
            raise UserError(
                f"path {body.path} was trained on {checkpoint.base_model!r}, but this model on {run.base_model!r}"
            )
        await context.blobs.fetch(checkpoint.directory)
        directory, share = (
            str(context.blobs.path(checkpoint.directory)),
            await context.shares.of_session(run.session_id),
        )
        return contract.LoadAdapter(entry.lane, run.base_model, directory, body.optimizer, share)

    async def conclude(
        self, entry: Entry, operation: contract.LoadAdapter, result: contract.AdapterInfo, context: Context
    ) -> Concluded:
        path = requests.parse(requests.LoadWeights, json.loads(entry.payload)).path

        def write(connection: Connection) -> list[str]:
            change_run_lora(connection, entry.lane, result.lora)
            return []

        return Concluded(success({"path": path, "type": "load_weights"}), write)
