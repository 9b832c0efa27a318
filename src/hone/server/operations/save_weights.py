"""A training checkpoint: weights and optimizer state under a name."""

import json

from sqlalchemy import Connection

from hone.engine import contract
from hone.protocol import requests
from hone.protocol.futures import success
from hone.protocol.uris import CheckpointPath, check_name
from hone.server.journal import Entry
from hone.server.operations.handler import Concluded, Context
from hone.server.operations.saving import checkpoint_directory, free_directory, saved_now
from hone.server.store import put_checkpoint
from hone.server.usage import Amounts


class SaveWeights:
    def repeats(self, entry: Entry, context: Context) -> bool:
        return False

    async def prepare(self, entry: Entry, context: Context) -> contract.SaveAdapter:
        body = _body(entry)
        directory = await free_directory(_path(entry, body), entry, body.overwrite, context)
        return contract.SaveAdapter(entry.lane, str(directory), with_optimizer=True)

    async def conclude(self, entry: Entry, operation: contract.SaveAdapter, result: int, context: Context) -> Concluded:
        body = _body(entry)
        path = _path(entry, body)
        await context.blobs.keep(checkpoint_directory(path, entry))
        checkpoint = await saved_now(path, entry, result, body.ttl_seconds, body.user_metadata, context)

        def write(connection: Connection) -> list[str]:
            return put_checkpoint(connection, checkpoint, body.overwrite)

        return Concluded(success({"path": str(path), "type": "save_weights"}), write, Amounts(checkpoint=1))


def _body(entry: Entry) -> requests.SaveWeights:
    return requests.parse(requests.SaveWeights, json.loads(entry.payload))


def _path(entry: Entry, body: requests.SaveWeights) -> CheckpointPath:
    return CheckpointPath(entry.lane, "weights", check_name(body.path))
