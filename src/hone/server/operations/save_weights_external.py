"""Weights for other tools: PEFT's files under a name, encrypted if the client gave keys, fetched by signed links."""

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


class SaveWeightsExternal:
    def repeats(self, entry: Entry, context: Context) -> bool:
        return False

    async def prepare(self, entry: Entry, context: Context) -> contract.ExportAdapter:
        body = _body(entry)
        directory = await free_directory(_path(entry, body), entry, False, context)
        return contract.ExportAdapter(entry.lane, str(directory), tuple(body.age_encryption_recipients or ()))

    async def conclude(
        self, entry: Entry, operation: contract.ExportAdapter, result: int, context: Context
    ) -> Concluded:
        body = _body(entry)
        path = _path(entry, body)
        await context.blobs.keep(checkpoint_directory(path, entry))
        checkpoint = await saved_now(path, entry, result, body.ttl_seconds, None, context)

        def write(connection: Connection) -> list[str]:
            return put_checkpoint(connection, checkpoint, overwrite=False)

        answer = success({"path": str(path), "size_bytes": result, "type": "save_weights_external"})
        return Concluded(answer, write, Amounts(checkpoint=1))


def _body(entry: Entry) -> requests.SaveWeightsExternal:
    return requests.parse(requests.SaveWeightsExternal, json.loads(entry.payload))


def _path(entry: Entry, body: requests.SaveWeightsExternal) -> CheckpointPath:
    return CheckpointPath(entry.lane, "external_weights", check_name(body.path))
