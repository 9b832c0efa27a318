"""Checkpoints copied into runs of their own."""

from typing import Any

from sqlalchemy import Connection, select, update

from hone.errors import UserError
from hone.protocol.uris import CheckpointPath, parse_path
from hone.server.store.checkpoints import Checkpoint, put_checkpoint
from hone.server.store.runs import Run, insert_run
from hone.storage.database import Database
from hone.storage.tables import operations, runs, sessions


class CopyStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def copied(self, copy_key: str, source: str) -> CheckpointPath | None:
        """The copy that an earlier request of this key made; `UserError` if it asked for another source."""
        return await self._database.run(lambda connection: _copied(connection, copy_key, source))

    async def insert_copy(
        self, run: Run, checkpoint: Checkpoint, copy_key: str | None, project_id: str, key_id: int | None
    ) -> CheckpointPath:
        """Keep a run that holds just this checkpoint; returns its path, or that of an equal request that came first.

        A run without a session of its own gets one that is over from the start.
        """
        assert run.copied_from is not None
        source = run.copied_from

        def work(connection: Connection) -> CheckpointPath:
            if copy_key is not None and (known := _copied(connection, copy_key, source)) is not None:
                return known
            taken = connection.execute(select(operations.c.lane).where(operations.c.lane == run.id).limit(1)).first()
            if taken is not None or connection.execute(select(runs.c.id).where(runs.c.id == run.id)).first():
                raise UserError(f"training run {run.id} exists already; use the next model_seq_id")
            if connection.execute(select(sessions.c.id).where(sessions.c.id == run.session_id)).first() is None:
                connection.execute(sessions.insert(), _session_of_copy(run, project_id, key_id))
            insert_run(connection, run)
            connection.execute(update(runs).where(runs.c.id == run.id).values(copied_from=source, copy_key=copy_key))
            put_checkpoint(connection, checkpoint, overwrite=False)
            return checkpoint.path

        return await self._database.run(work)


def _copied(connection: Connection, copy_key: str, source: str) -> CheckpointPath | None:
    known = connection.execute(select(runs.c.id, runs.c.copied_from).where(runs.c.copy_key == copy_key)).first()
    if known is None:
        return None
    if known.copied_from != source:
        raise UserError(f"X-Idempotency-Key {copy_key!r} was used to copy {known.copied_from}; use another key")
    path = parse_path(source)
    return CheckpointPath(known.id, path.kind, path.name)


def _session_of_copy(run: Run, project_id: str, key_id: int | None) -> dict[str, Any]:
    return {
        "id": run.session_id,
        "created_at": run.created_at,
        "tags": [],
        "project_id": project_id,
        "key_id": key_id,
        "sdk_version": "",
        "finished_at": run.created_at,
        "finish_reason": "success",
        "finish_detail": f"made for a copy of {run.copied_from}",
    }
