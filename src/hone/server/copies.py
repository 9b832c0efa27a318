"""Copies of checkpoints: a run of their own that holds one checkpoint and cannot be trained."""

import secrets
import time
import uuid

from hone.errors import UserError
from hone.protocol import requests
from hone.protocol.uris import CheckpointPath, parse_path
from hone.server import ids
from hone.server.sessions import Sessions
from hone.server.store import Checkpoint, Run, Store
from hone.server.worker import Worker
from hone.storage.blobs import Blobs


class Copies:
    def __init__(self, store: Store, blobs: Blobs, worker: Worker, sessions: Sessions) -> None:
        self._store = store
        self._blobs = blobs
        self._worker = worker
        self._sessions = sessions

    async def copy(self, body: requests.CopyWeights, project_id: str, key_id: int, key: str | None) -> CheckpointPath:
        """The copy's path; the same for a request that is repeated with its key, even when the source is gone.

        `project_id` and `key_id` own the copy unless the body names a session, which then does.
        """
        copy_key = f"{key_id}:{key}" if key else None
        source_path = parse_path(body.source_path)
        if source_path.kind == "external_weights":
            raise UserError(
                f"source_path {body.source_path} is an external checkpoint; only the other kinds are copied"
            )
        if copy_key is not None and (known := await self._store.copied(copy_key, str(source_path))) is not None:
            return known
        session_id, run_id = await self._destination(body)
        source = await self._store.checkpoint(source_path)
        if not await self._blobs.fetch(source.directory):
            await self._worker.written(source_path.run_id)  # published and not yet on disk
        path = CheckpointPath(run_id, source_path.kind, source_path.name)
        directory = f"checkpoints/{run_id}/{path.kind}/{path.name}@{secrets.token_hex(4)}"
        try:
            size = await self._blobs.copy(source.directory, directory)
        except FileNotFoundError:
            raise UserError(f"checkpoint {source_path} was deleted while it was copied") from None
        run = await self._store.run(source_path.run_id)
        now = time.time()
        copy = Checkpoint(
            path=path,
            created_at=now,
            directory=directory,
            size_bytes=size,
            public=False,
            expires_at=None if body.ttl_seconds is None else now + body.ttl_seconds,
            user_metadata=source.user_metadata,
            base_model=source.base_model,
            lora=source.lora,
        )
        holder = Run(
            run_id, session_id, source.base_model, source.lora, run.user_metadata, now, -1, None, str(source_path)
        )
        try:
            kept = await self._store.insert_copy(holder, copy, copy_key, project_id, key_id)
        except BaseException:
            self._blobs.discard(directory)
            raise
        if kept != path:
            self._blobs.discard(directory)  # an equal request came first
        return kept

    async def _destination(self, body: requests.CopyWeights) -> tuple[str, str]:
        """Session and run that will hold the copy."""
        if (body.session_id is None) != (body.model_seq_id is None):
            raise UserError("session_id and model_seq_id go together: give both, or destination_project_id")
        if body.session_id is None or body.model_seq_id is None:
            session_id = str(uuid.uuid4())
            return session_id, ids.model_id(session_id, 0)
        await self._sessions.check_open(body.session_id)
        return body.session_id, ids.model_id(body.session_id, body.model_seq_id)
