"""Checkpoints, from the first save to the memory of an expired one."""

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, or_, select, update

from hone.errors import NotFoundError, UserError
from hone.identity import audit
from hone.protocol.responses import timestamp
from hone.protocol.types import LoraConfig
from hone.protocol.uris import KINDS, CheckpointPath
from hone.server.usage import meter_storage
from hone.storage.database import Database
from hone.storage.tables import checkpoints, expired_checkpoints, projects, runs, sessions


@dataclass(frozen=True)
class Checkpoint:
    path: CheckpointPath
    created_at: float
    directory: str
    size_bytes: int | None
    public: bool
    expires_at: float | None
    user_metadata: dict[str, str] | None
    base_model: str
    lora: LoraConfig

    def expired(self, now: float) -> bool:
        return self.expires_at is not None and self.expires_at <= now


class CheckpointStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def checkpoint(self, path: CheckpointPath) -> Checkpoint:
        def work(connection: Connection) -> Checkpoint:
            row = connection.execute(select(checkpoints).where(checkpoints.c.path == str(path), live())).first()
            if row is None:
                raise _gone(connection, path)
            return read_checkpoint(row)

        return await self._database.run(work)

    async def has_checkpoint(self, path: CheckpointPath) -> bool:
        query = select(checkpoints.c.path).where(checkpoints.c.path == str(path), live())
        return await self._database.run(lambda connection: connection.execute(query).first() is not None)

    async def checkpoints(
        self,
        run_id: str | None = None,
        offset: int = 0,
        limit: int | None = None,
        projects: Collection[str] | None = None,
        kinds: Collection[str] = KINDS.keys(),
    ) -> tuple[list[Checkpoint], int]:
        """Checkpoints of one run, of some projects or of all, newest first, and how many there are."""
        chosen = select(checkpoints).where(live(), checkpoints.c.kind.in_(kinds))
        if projects is not None:
            owned = runs.join(sessions, runs.c.session_id == sessions.c.id)
            chosen = chosen.join(owned, checkpoints.c.run_id == runs.c.id).where(sessions.c.project_id.in_(projects))
        if run_id is not None:
            chosen = chosen.where(checkpoints.c.run_id == run_id)
        page = chosen.order_by(checkpoints.c.created_at.desc(), checkpoints.c.path).offset(offset).limit(limit)

        def work(connection: Connection) -> tuple[list[Checkpoint], int]:
            total = connection.execute(select(func.count()).select_from(chosen.subquery())).scalar_one()
            return [read_checkpoint(row) for row in connection.execute(page)], total

        return await self._database.run(work)

    async def change_checkpoint(
        self, path: CheckpointPath, values: dict[str, Any], event: str, key_id: int | None = None
    ) -> None:
        """`event` is what the audit log calls the change."""

        def work(connection: Connection) -> None:
            meter_storage(connection, time.time(), str(path))
            query = update(checkpoints).where(checkpoints.c.path == str(path), live()).values(values)
            if not connection.execute(query).rowcount:
                raise _gone(connection, path)
            record_checkpoint_event(connection, event, path, key_id, values)

        await self._database.run(work)

    async def delete_checkpoint(self, path: CheckpointPath, key_id: int | None = None) -> str | None:
        """Forget a checkpoint; returns its directory, or None if there was no such checkpoint."""

        def work(connection: Connection) -> str | None:
            meter_storage(connection, time.time(), str(path))
            record_checkpoint_event(connection, "checkpoint_delete", path, key_id)
            query = select(checkpoints.c.directory).where(checkpoints.c.path == str(path))
            directory: str | None = connection.execute(query).scalar()
            connection.execute(delete(checkpoints).where(checkpoints.c.path == str(path)))
            return directory

        return await self._database.run(work)

    async def expired_checkpoints(self, now: float) -> list[Checkpoint]:
        query = select(checkpoints).where(checkpoints.c.expires_at <= now)
        return await self._database.run(lambda connection: [read_checkpoint(row) for row in connection.execute(query)])

    async def forget_expired(self, expired: Checkpoint) -> None:
        """Keep of a checkpoint only that there was one."""
        path = str(expired.path)

        def work(connection: Connection) -> None:
            meter_storage(connection, time.time(), path)
            query = delete(checkpoints).where(checkpoints.c.path == path, checkpoints.c.directory == expired.directory)
            if connection.execute(query).rowcount:
                connection.execute(expired_checkpoints.insert(), {"path": path, "expired_at": expired.expires_at})
                record_checkpoint_event(connection, "checkpoint_expire", expired.path, None)

        await self._database.run(work)


def put_checkpoint(connection: Connection, checkpoint: Checkpoint, overwrite: bool) -> list[str]:
    """Keep a checkpoint under its path; returns the directory of the one that it replaces."""
    path = str(checkpoint.path)
    previous = connection.execute(select(checkpoints).where(checkpoints.c.path == path)).first()
    if previous is not None:
        if not overwrite and not read_checkpoint(previous).expired(time.time()):
            raise name_in_use(checkpoint.path)
        meter_storage(connection, time.time(), path)
        connection.execute(delete(checkpoints).where(checkpoints.c.path == path))
    connection.execute(delete(expired_checkpoints).where(expired_checkpoints.c.path == path))
    connection.execute(
        checkpoints.insert(),
        {
            "path": path,
            "run_id": checkpoint.path.run_id,
            "kind": checkpoint.path.kind,
            "name": checkpoint.path.name,
            "created_at": checkpoint.created_at,
            "directory": checkpoint.directory,
            "size_bytes": checkpoint.size_bytes,
            "public": checkpoint.public,
            "expires_at": checkpoint.expires_at,
            "user_metadata": checkpoint.user_metadata,
            "base_model": checkpoint.base_model,
            "lora": vars(checkpoint.lora),
        },
    )
    record_checkpoint_event(connection, "checkpoint_create", checkpoint.path, None, {"overwrite": previous is not None})
    return [] if previous is None else [previous.directory]


def name_in_use(path: CheckpointPath) -> UserError:
    return UserError(f"path {path.name!r} is in use: {path} exists; choose another name or delete it first")


def record_checkpoint_event(
    connection: Connection, event: str, path: CheckpointPath, key_id: int | None, details: dict[str, Any] | None = None
) -> None:
    """Note a deed to a checkpoint; without a key, that of the session's key or of the server."""
    owner = connection.execute(
        select(sessions.c.project_id, sessions.c.key_id, projects.c.organization_id)
        .join(runs, runs.c.session_id == sessions.c.id)
        .join(projects, projects.c.id == sessions.c.project_id)
        .where(runs.c.id == path.run_id)
    ).first()
    if owner is not None:
        by = owner.key_id if key_id is None and event == "checkpoint_create" else key_id
        about = {"tinker_path": str(path), "model_id": path.run_id, "key_id": by, **(details or {})}
        audit.record(connection, event, owner.organization_id, owner.project_id, about)


def live() -> ColumnElement[bool]:
    """Holds for checkpoints whose time is not over; the rest only wait to be cleared away."""
    return or_(checkpoints.c.expires_at.is_(None), checkpoints.c.expires_at > time.time())


def _gone(connection: Connection, path: CheckpointPath) -> NotFoundError:
    """Why there is no such checkpoint."""
    for table, column in ((checkpoints, "expires_at"), (expired_checkpoints, "expired_at")):
        expired_at = connection.execute(select(table.c[column]).where(table.c.path == str(path))).scalar()
        if expired_at is not None:
            return NotFoundError(
                f"checkpoint {path} expired at {timestamp(expired_at)} and is gone; "
                "save with a longer ttl_seconds, or without one"
            )
    return NotFoundError(f"checkpoint {path} does not exist; see the checkpoints of run {path.run_id!r}")


def read_checkpoint(row: Row[Any]) -> Checkpoint:
    return Checkpoint(
        CheckpointPath(row.run_id, row.kind, row.name),
        row.created_at,
        row.directory,
        row.size_bytes,
        row.public,
        row.expires_at,
        row.user_metadata,
        row.base_model,
        LoraConfig(**row.lora),
    )
