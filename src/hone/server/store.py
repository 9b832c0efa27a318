"""What the database knows about sessions, training runs, samplers and checkpoints."""

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update

from hone.errors import NotFoundError, UserError
from hone.protocol.types import LoraConfig
from hone.protocol.uris import CheckpointPath
from hone.storage.database import Database
from hone.storage.tables import checkpoints, operations, runs, samplers, sessions


@dataclass(frozen=True)
class Run:
    id: str
    session_id: str
    base_model: str
    lora: LoraConfig
    user_metadata: dict[str, str] | None
    created_at: float
    snapshot_seq: int
    """-1 while there is no snapshot."""
    snapshot_directory: str | None


@dataclass(frozen=True)
class Sampler:
    id: str
    session_id: str
    base_model: str
    model_path: str | None
    version: str | None
    ephemeral: bool


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


@dataclass(frozen=True)
class RunSummary:
    """A training run as lists show it."""

    run: Run
    last_request_at: float
    last_checkpoint: Checkpoint | None
    last_sampler_checkpoint: Checkpoint | None


@dataclass(frozen=True)
class SessionSummary:
    id: str
    user_metadata: dict[str, str] | None
    display_name: str | None
    run_ids: list[str]
    sampler_ids: list[str]


class Store:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert_session(self, row: dict[str, Any]) -> str:
        """The id of the new session, or of the one that the same request made before."""

        def work(connection: Connection) -> str:
            if row["idempotency_key"]:
                known: str | None = connection.execute(
                    select(sessions.c.id).where(sessions.c.idempotency_key == row["idempotency_key"])
                ).scalar()
                if known is not None:
                    return known
            connection.execute(sessions.insert(), row)
            return str(row["id"])

        return await self._database.run(work)

    async def session_finished(self, session_id: str) -> bool:
        query = select(sessions.c.finished_at).where(sessions.c.id == session_id)
        row = await self._database.run(lambda connection: connection.execute(query).first())
        if row is None:
            raise NotFoundError(f"session_id {session_id!r} is unknown on this server; create a new client")
        return row.finished_at is not None

    async def finish_session(self, session_id: str, reason: str, detail: str | None) -> None:
        """The first reason stands; later ones are ignored."""
        query = (
            update(sessions)
            .where(sessions.c.id == session_id, sessions.c.finished_at.is_(None))
            .values(finished_at=time.time(), finish_reason=reason, finish_detail=detail)
        )
        await self._database.run(lambda connection: connection.execute(query).rowcount)

    async def sessions_to_end(self) -> list[str]:
        """Finished sessions whose models still have snapshots: a server stopped before it cleared them away."""
        query = (
            select(sessions.c.id)
            .join(runs)
            .where(sessions.c.finished_at.is_not(None), runs.c.snapshot_directory.is_not(None))
            .distinct()
        )
        return await self._database.run(lambda connection: list(connection.execute(query).scalars()))

    async def snapshot_directories(self) -> set[str]:
        query = select(runs.c.snapshot_directory).where(runs.c.snapshot_directory.is_not(None))
        return await self._database.run(lambda connection: set(connection.execute(query).scalars()))

    async def session_ids(self, offset: int, limit: int) -> list[str]:
        query = select(sessions.c.id).order_by(sessions.c.created_at.desc()).offset(offset).limit(limit)
        return await self._database.run(lambda connection: list(connection.execute(query).scalars()))

    async def session(self, session_id: str) -> SessionSummary:
        def work(connection: Connection) -> SessionSummary:
            row = connection.execute(select(sessions).where(sessions.c.id == session_id)).first()
            if row is None:
                raise NotFoundError(f"session {session_id!r} does not exist")
            of_session = [
                list(connection.execute(select(table.c.id).where(table.c.session_id == session_id)).scalars())
                for table in (runs, samplers)
            ]
            return SessionSummary(row.id, row.user_metadata, row.display_name, *of_session)

        return await self._database.run(work)

    async def run(self, run_id: str) -> Run:
        row = await self._database.run(
            lambda connection: connection.execute(select(runs).where(runs.c.id == run_id)).first()
        )
        if row is None:
            raise NotFoundError(f"training run {run_id!r} does not exist")
        return _run(row)

    async def run_summary(self, run_id: str) -> RunSummary:
        run = await self.run(run_id)
        return await self._database.run(lambda connection: _summary(connection, run))

    async def run_summaries(self, offset: int, limit: int) -> tuple[list[RunSummary], int]:
        """One page of the training runs, newest first, and how many there are."""

        def work(connection: Connection) -> tuple[list[RunSummary], int]:
            total = connection.execute(select(func.count()).select_from(runs)).scalar_one()
            page = select(runs).order_by(runs.c.created_at.desc(), runs.c.id).offset(offset).limit(limit)
            return [_summary(connection, _run(row)) for row in connection.execute(page).all()], total

        return await self._database.run(work)

    async def sampler(self, sampler_id: str) -> Sampler:
        row = await self._database.run(
            lambda connection: connection.execute(select(samplers).where(samplers.c.id == sampler_id)).first()
        )
        if row is None:
            raise NotFoundError(f"sampling_session_id {sampler_id!r} is unknown on this server")
        return _sampler(row)

    async def ephemeral_versions(self, session_id: str) -> list[str]:
        query = select(samplers.c.version).where(samplers.c.session_id == session_id, samplers.c.ephemeral)
        return await self._database.run(lambda connection: list(connection.execute(query).scalars()))

    async def insert_sampler(self, sampler: Sampler) -> None:
        await self._database.run(lambda connection: insert_sampler(connection, sampler))

    async def checkpoint(self, path: CheckpointPath) -> Checkpoint:
        row = await self._database.run(
            lambda connection: connection.execute(select(checkpoints).where(checkpoints.c.path == str(path))).first()
        )
        if row is None:
            raise NotFoundError(f"checkpoint {path} does not exist; see the checkpoints of run {path.run_id!r}")
        return _checkpoint(row)

    async def has_checkpoint(self, path: CheckpointPath) -> bool:
        query = select(checkpoints.c.path).where(checkpoints.c.path == str(path))
        return await self._database.run(lambda connection: connection.execute(query).first() is not None)

    async def checkpoints(
        self, run_id: str | None = None, offset: int = 0, limit: int | None = None
    ) -> tuple[list[Checkpoint], int]:
        """Checkpoints of one run or of all, newest first, and how many there are."""
        chosen = select(checkpoints) if run_id is None else select(checkpoints).where(checkpoints.c.run_id == run_id)
        page = chosen.order_by(checkpoints.c.created_at.desc(), checkpoints.c.path).offset(offset).limit(limit)

        def work(connection: Connection) -> tuple[list[Checkpoint], int]:
            total = connection.execute(select(func.count()).select_from(chosen.subquery())).scalar_one()
            return [_checkpoint(row) for row in connection.execute(page)], total

        return await self._database.run(work)

    async def delete_checkpoint(self, path: CheckpointPath) -> str | None:
        """Forget a checkpoint; returns its directory, or None if there was no such checkpoint."""

        def work(connection: Connection) -> str | None:
            query = select(checkpoints.c.directory).where(checkpoints.c.path == str(path))
            directory: str | None = connection.execute(query).scalar()
            connection.execute(delete(checkpoints).where(checkpoints.c.path == str(path)))
            return directory

        return await self._database.run(work)

    async def change_checkpoint(self, path: CheckpointPath, values: dict[str, Any]) -> None:
        query = update(checkpoints).where(checkpoints.c.path == str(path)).values(values)
        if not await self._database.run(lambda connection: connection.execute(query).rowcount):
            raise NotFoundError(f"checkpoint {path} does not exist")


def insert_run(connection: Connection, run: Run) -> None:
    connection.execute(
        runs.insert(),
        {
            "id": run.id,
            "session_id": run.session_id,
            "base_model": run.base_model,
            "lora": vars(run.lora),
            "user_metadata": run.user_metadata,
            "created_at": run.created_at,
        },
    )


def change_run_lora(connection: Connection, run_id: str, lora: LoraConfig) -> None:
    connection.execute(update(runs).where(runs.c.id == run_id).values(lora=vars(lora)))


def insert_sampler(connection: Connection, sampler: Sampler) -> None:
    """A repeated request finds its sampler made; one that differs has taken a number twice."""
    known = connection.execute(select(samplers).where(samplers.c.id == sampler.id)).first()
    if known is None:
        connection.execute(samplers.insert(), {**vars(sampler), "created_at": time.time()})
    elif _sampler(known) != sampler:
        raise UserError(
            f"sampling session {sampler.id} exists with other weights; use the next sampling_session_seq_id"
        )


def put_checkpoint(connection: Connection, checkpoint: Checkpoint, overwrite: bool) -> list[str]:
    """Keep a checkpoint under its path; returns the directory of the one that it replaces."""
    path = str(checkpoint.path)
    previous: str | None = connection.execute(
        select(checkpoints.c.directory).where(checkpoints.c.path == path)
    ).scalar()
    if previous is not None:
        if not overwrite:
            raise name_in_use(checkpoint.path)
        connection.execute(delete(checkpoints).where(checkpoints.c.path == path))
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
    return [] if previous is None else [previous]


def name_in_use(path: CheckpointPath) -> UserError:
    return UserError(f"path {path.name!r} is in use: {path} exists; choose another name or delete it first")


def _summary(connection: Connection, run: Run) -> RunSummary:
    newest = (
        select(operations.c.accepted_at)
        .where(operations.c.lane == run.id)
        .order_by(operations.c.seq_id.desc())
        .limit(1)
    )
    last = connection.execute(newest).scalar()
    return RunSummary(
        run,
        run.created_at if last is None else last,
        _newest_checkpoint(connection, run.id, "weights"),
        _newest_checkpoint(connection, run.id, "sampler_weights"),
    )


def _newest_checkpoint(connection: Connection, run_id: str, kind: str) -> Checkpoint | None:
    query = (
        select(checkpoints)
        .where(checkpoints.c.run_id == run_id, checkpoints.c.kind == kind)
        .order_by(checkpoints.c.created_at.desc())
        .limit(1)
    )
    row = connection.execute(query).first()
    return None if row is None else _checkpoint(row)


def _run(row: Row[Any]) -> Run:
    return Run(
        row.id,
        row.session_id,
        row.base_model,
        LoraConfig(**row.lora),
        row.user_metadata,
        row.created_at,
        -1 if row.snapshot_seq is None else row.snapshot_seq,
        row.snapshot_directory,
    )


def _sampler(row: Row[Any]) -> Sampler:
    return Sampler(row.id, row.session_id, row.base_model, row.model_path, row.version, row.ephemeral)


def _checkpoint(row: Row[Any]) -> Checkpoint:
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
