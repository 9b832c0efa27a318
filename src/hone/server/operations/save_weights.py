"""A training checkpoint: weights and optimizer state under a name."""

import json
import time

from sqlalchemy import Connection

from hone.engine import contract
from hone.protocol import requests
from hone.protocol.futures import success
from hone.protocol.uris import CheckpointPath, check_name
from hone.server.journal import Entry
from hone.server.operations.handler import Concluded, Context
from hone.server.store import Checkpoint, name_in_use, put_checkpoint
from hone.server.usage import Amounts
from hone.storage.atomic import remove_tree


class SaveWeights:
    def repeats(self, entry: Entry, context: Context) -> bool:
        return False

    async def prepare(self, entry: Entry, context: Context) -> contract.SaveAdapter:
        body = requests.parse(requests.SaveWeights, json.loads(entry.payload))
        path = CheckpointPath(entry.lane, "weights", check_name(body.path))
        if not body.overwrite and await context.store.has_checkpoint(path):
            raise name_in_use(path)
        directory = context.blobs.path(checkpoint_directory(path, entry))
        remove_tree(directory)  # left there if a save was cut short after its files and before its answer
        return contract.SaveAdapter(entry.lane, str(directory), with_optimizer=True)

    async def conclude(self, entry: Entry, operation: contract.SaveAdapter, result: int, context: Context) -> Concluded:
        body = requests.parse(requests.SaveWeights, json.loads(entry.payload))
        run = await context.store.run(entry.lane)
        path = CheckpointPath(entry.lane, "weights", body.path)
        now = time.time()
        await context.blobs.keep(checkpoint_directory(path, entry))
        checkpoint = Checkpoint(
            path=path,
            created_at=now,
            directory=checkpoint_directory(path, entry),
            size_bytes=result,
            public=False,
            expires_at=None if body.ttl_seconds is None else now + body.ttl_seconds,
            user_metadata=body.user_metadata,
            base_model=run.base_model,
            lora=run.lora,
        )

        def write(connection: Connection) -> list[str]:
            return put_checkpoint(connection, checkpoint, body.overwrite)

        return Concluded(success({"path": str(path), "type": "save_weights"}), write, Amounts(checkpoint=1))


def checkpoint_directory(path: CheckpointPath, entry: Entry) -> str:
    """Relative to the data directory. The number makes it a fresh one for each save under the same name."""
    return f"checkpoints/{path.run_id}/{path.kind}/{path.name}@{entry.seq_id}"
