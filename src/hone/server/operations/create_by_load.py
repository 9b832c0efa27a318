"""A new model that starts from a checkpoint, which also says what kind of adapter it is."""

import json
import time

from sqlalchemy import Connection

from hone.engine import contract
from hone.errors import UserError
from hone.protocol import requests
from hone.protocol.futures import success
from hone.protocol.uris import parse_path
from hone.server import ids
from hone.server.bases import check_base
from hone.server.journal import Entry
from hone.server.operations.create_model import check_optimizer
from hone.server.operations.handler import Concluded, Context
from hone.server.store import Checkpoint, Run, insert_run


class CreateByLoad:
    def repeats(self, entry: Entry, context: Context) -> bool:
        return True

    async def prepare(self, entry: Entry, context: Context) -> contract.LoadAdapter:
        body = requests.parse(requests.LoadWeights, json.loads(entry.payload))
        checkpoint = await training_checkpoint(body.path, context)
        base_model = context.base_model(body.base_model or checkpoint.base_model)
        check_base(checkpoint, base_model.name, context.models)
        if not body.optimizer:
            check_optimizer(body.optimizer_config)
        await context.blobs.fetch(checkpoint.directory)
        directory, share = (
            str(context.blobs.path(checkpoint.directory)),
            await context.shares.of_session(ids.session_of(entry.lane)),
        )
        return contract.LoadAdapter(entry.lane, base_model.name, directory, body.optimizer, share)

    async def conclude(
        self, entry: Entry, operation: contract.LoadAdapter, result: contract.AdapterInfo, context: Context
    ) -> Concluded:
        fields = json.loads(entry.payload)
        body = requests.parse(requests.LoadWeights, fields)
        session_id = requests.parse(requests.ModelAddress, fields).session_id
        run = Run(entry.lane, session_id, operation.base_model, result.lora, body.user_metadata, time.time(), -1, None)

        def write(connection: Connection) -> list[str]:
            insert_run(connection, run)
            return []

        return Concluded(success({"path": body.path, "model_id": entry.lane, "type": "load_weights"}), write)


async def training_checkpoint(path: str, context: Context) -> Checkpoint:
    parsed = parse_path(path)
    if parsed.kind != "weights":
        raise UserError(f"path {path} is a {parsed.checkpoint_type} checkpoint; only .../weights/... can be trained on")
    return await context.store.checkpoint(parsed)
