"""An immutable version to sample from: under a name, or unnamed together with a sampling session.

All unnamed versions of kind `inflight` of one run are one moving target: a new one takes the place of the one before it
for every client that samples it, from the next sample on. Samples under way are finished with the weights they have.
"""

import json

from sqlalchemy import Connection

from hone.engine import contract
from hone.errors import UserError
from hone.protocol import requests
from hone.protocol.futures import success
from hone.protocol.uris import CheckpointPath, check_name
from hone.server.ids import sampler_id, session_of
from hone.server.journal import Entry
from hone.server.operations.handler import Concluded, Context
from hone.server.operations.saving import checkpoint_directory, saved_now
from hone.server.store import Sampler, insert_sampler, move_inflight, name_in_use, put_checkpoint
from hone.server.usage import Amounts
from hone.storage.atomic import remove_tree

UNNAMED = ".unnamed"
"""No name that users may choose starts with a dot."""


class SaveWeightsForSampler:
    def repeats(self, entry: Entry, context: Context) -> bool:
        """The answer came when the copy was in memory; the engine may have ended before it was on disk."""
        return not context.blobs.here(checkpoint_directory(_path(entry, _body(entry)), entry))

    async def prepare(self, entry: Entry, context: Context) -> contract.Publish:
        body = _body(entry)
        path = _path(entry, body)
        if body.path is not None and await context.store.has_checkpoint(path) and not await _answered(entry, context):
            raise name_in_use(path)
        version = checkpoint_directory(path, entry)
        directory = context.blobs.path(version)
        remove_tree(directory)
        # What is for a name must be safe when it is answered. The rest is, when a snapshot covers it (see `Lane`).
        durable = context.blobs.remote and body.path is not None
        return contract.Publish(entry.lane, version, str(directory), durable)

    async def conclude(
        self, entry: Entry, operation: contract.Publish, result: int | None, context: Context
    ) -> Concluded:
        body = _body(entry)
        if body.path is None:
            run = await context.store.run(entry.lane)
            assert body.sampling_session_seq_id is not None
            session_id = session_of(entry.lane)
            made = sampler_id(session_id, body.sampling_session_seq_id)
            follows = entry.lane if body.kind == "inflight" else None
            sampler = Sampler(made, session_id, run.base_model, None, operation.version, True, follows)

            def write_sampler(connection: Connection) -> list[str]:
                insert_sampler(connection, sampler)
                return [] if follows is None else move_inflight(connection, follows, operation.version)

            return Concluded(success({"sampling_session_id": made, "type": "save_weights_for_sampler"}), write_sampler)

        path = _path(entry, body)
        if operation.durable:
            await context.blobs.keep(operation.version)
        size = result  # None: still being written
        checkpoint = await saved_now(path, entry, size, body.ttl_seconds, body.user_metadata, context)

        def write_checkpoint(connection: Connection) -> list[str]:
            return put_checkpoint(connection, checkpoint, overwrite=False)

        answer = success({"path": str(path), "type": "save_weights_for_sampler"})
        return Concluded(answer, write_checkpoint, Amounts(checkpoint=1))


def _body(entry: Entry) -> requests.SaveWeightsForSampler:
    body = requests.parse(requests.SaveWeightsForSampler, json.loads(entry.payload))
    if (body.path is None) == (body.sampling_session_seq_id is None):
        raise UserError("give either path, for a named checkpoint, or sampling_session_seq_id, for an unnamed one")
    return body


def _path(entry: Entry, body: requests.SaveWeightsForSampler) -> CheckpointPath:
    return CheckpointPath(entry.lane, "sampler_weights", UNNAMED if body.path is None else check_name(body.path))


async def _answered(entry: Entry, context: Context) -> bool:
    return await context.journal.outcome(entry.request_id) is not None
