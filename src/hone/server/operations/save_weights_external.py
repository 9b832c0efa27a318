"""Weights for other tools: PEFT's files under a name, encrypted if the client gave keys, fetched by signed links."""

import json
import time

from sqlalchemy import Connection

from hone.engine import contract
from hone.protocol import requests
from hone.protocol.futures import success
from hone.protocol.uris import CheckpointPath, check_name
from hone.server.journal import Entry
from hone.server.operations.handler import Concluded, Context
from hone.server.operations.save_weights import checkpoint_directory
from hone.server.store import Checkpoint, name_in_use, put_checkpoint
from hone.server.usage import Amounts
from hone.storage.atomic import remove_tree


class SaveWeightsExternal:
    def repeats(self, entry: Entry, context: Context) -> bool:
        return False

    async def prepare(self, entry: Entry, context: Context) -> contract.ExportAdapter:
        body = requests.parse(requests.SaveWeightsExternal, json.loads(entry.payload))
        path = CheckpointPath(entry.lane, "external_weights", check_name(body.path))
        if await context.store.has_checkpoint(path):
            raise name_in_use(path)
        directory = context.blobs.path(checkpoint_directory(path, entry))
        remove_tree(directory)  # left there if a save was cut short after its files and before its answer
        return contract.ExportAdapter(entry.lane, str(directory), tuple(body.age_encryption_recipients or ()))

    async def conclude(
        self, entry: Entry, operation: contract.ExportAdapter, result: int, context: Context
    ) -> Concluded:
        body = requests.parse(requests.SaveWeightsExternal, json.loads(entry.payload))
        run = await context.store.run(entry.lane)
        path, now = CheckpointPath(entry.lane, "external_weights", body.path), time.time()
        await context.blobs.keep(checkpoint_directory(path, entry))
        checkpoint = Checkpoint(
            path=path,
            created_at=now,
            directory=checkpoint_directory(path, entry),
            size_bytes=result,
            public=False,
            expires_at=None if body.ttl_seconds is None else now + body.ttl_seconds,
            user_metadata=None,
            base_model=run.base_model,
            lora=run.lora,
        )

        def write(connection: Connection) -> list[str]:
            return put_checkpoint(connection, checkpoint, overwrite=False)

        answer = success({"path": str(path), "size_bytes": result, "type": "save_weights_external"})
        return Concluded(answer, write, Amounts(checkpoint=1))
