"""What the database knows about sessions, training runs, samplers and checkpoints."""

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, not_, or_, select, update

from hone.errors import NotFoundError, UserError
from hone.identity import accounts, audit
from hone.identity.prices import Prices
from hone.protocol import requests
from hone.protocol.responses import timestamp
from hone.protocol.types import LoraConfig
from hone.protocol.uris import CheckpointPath, parse_path
from hone.server.usage import Filter, meter_storage, spent
from hone.storage.database import Database
from hone.storage.tables import (
    api_keys,
    checkpoints,
    expired_checkpoints,
    operations,
    projects,
    runs,
    samplers,
    sessions,
)


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
    copied_from: str | None = None
    """What this run holds a copy of; such a run cannot be trained."""


@dataclass(frozen=True)
class Sampler:
    id: str
    session_id: str
    base_model: str
    model_path: str | None
    version: str | None
    ephemeral: bool
    inflight: str | None = None
    """The run whose newest inflight weights it follows; None keeps its version for good."""


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


@dataclass(frozen=True)
class RunSummary:
    """A training run as lists show it."""

    run: Run
    last_request_at: float
    last_checkpoint: Checkpoint | None
    last_sampler_checkpoint: Checkpoint | None
    user_id: str
    """Of the key that opened the session."""
    cost_usd: float


@dataclass(frozen=True)
class SessionSummary:
    id: str
    user_metadata: dict[str, str] | None
    display_name: str | None
    run_ids: list[str]
    sampler_ids: list[str]


@dataclass(frozen=True)
class FoundSession:
    """A session as a search shows it."""

    id: str
    created_at: float
    project_id: str
    user_id: str
    status: dict[str, Any]
    display_name: str | None
    user_metadata: dict[str, str] | None
    checkpoints_count: int
    checkpoint_storage_bytes: int


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

    async def open_sessions(self) -> list[str]:
        query = select(sessions.c.id).where(sessions.c.finished_at.is_(None))
        return await self._database.run(lambda connection: list(connection.execute(query).scalars()))

    async def snapshot_directories(self) -> set[str]:
        query = select(runs.c.snapshot_directory).where(runs.c.snapshot_directory.is_not(None))
        return await self._database.run(lambda connection: set(connection.execute(query).scalars()))

    async def session_ids(self, offset: int, limit: int, projects: Collection[str]) -> list[str]:
        mine = select(sessions.c.id).where(sessions.c.project_id.in_(projects))
        query = mine.order_by(sessions.c.created_at.desc()).offset(offset).limit(limit)
        return await self._database.run(lambda connection: list(connection.execute(query).scalars()))

    async def search_sessions(
        self, body: requests.SearchSessions, in_projects: Collection[str], users: Collection[str] | None
    ) -> list[FoundSession]:
        """Newest first, at most one more than the page holds."""
        query = (
            select(sessions, api_keys.c.user_id)
            .outerjoin(api_keys, sessions.c.key_id == api_keys.c.id)
            .where(sessions.c.project_id.in_(in_projects))
            .order_by(sessions.c.created_at.desc(), sessions.c.id)
        )
        if users is not None:
            query = query.where(func.coalesce(api_keys.c.user_id, accounts.LOCAL).in_(users))
        if body.cursor is not None:
            last, last_id = body.cursor.last_created_at.timestamp(), body.cursor.last_session_id
            # a time that went through text and back may be off by its last digit
            same = func.abs(sessions.c.created_at - last) < 1e-6
            query = query.where(
                or_(and_(sessions.c.created_at < last, not_(same)), and_(same, sessions.c.id > last_id))
            )

        def work(connection: Connection) -> list[FoundSession]:
            found: list[FoundSession] = []
            for row in connection.execute(query):
                if _matches(row, body):
                    found.append(_found_session(connection, row))
                    if len(found) > body.limit:
                        break
            return found

        return await self._database.run(work)

    async def move_session(self, session_id: str, project_id: str, caller: accounts.Caller) -> None:
        def work(connection: Connection) -> None:
            query = update(sessions).where(sessions.c.id == session_id).values(project_id=project_id)
            if not connection.execute(query).rowcount:
                raise NotFoundError(f"session {session_id!r} does not exist")
            details = {"session_id": session_id, "key_id": caller.key.id}
            audit.record(connection, "session_project_set", caller.organization_id, project_id, details)

        await self._database.run(work)

    async def session(self, session_id: str) -> SessionSummary:
        def work(connection: Connection) -> SessionSummary:
            row = connection.execute(select(sessions).where(sessions.c.id == session_id)).first()
            if row is None:
                raise NotFoundError(f"session {session_id!r} does not exist")
            queries = [
                select(table.c.id).where(table.c.session_id == session_id).order_by(table.c.created_at, table.c.id)
                for table in (runs, samplers)
            ]
            of_session = [list(connection.execute(query).scalars()) for query in queries]
            return SessionSummary(row.id, row.user_metadata, row.display_name, *of_session)

        return await self._database.run(work)

    async def run(self, run_id: str) -> Run:
        row = await self._database.run(
            lambda connection: connection.execute(select(runs).where(runs.c.id == run_id)).first()
        )
        if row is None:
            raise NotFoundError(f"training run {run_id!r} does not exist")
        return _run(row)

    async def run_summary(self, run_id: str, prices: Prices) -> RunSummary:
        run = await self.run(run_id)
        return await self._database.run(lambda connection: _summary(connection, run, prices))

    async def run_summaries(
        self, offset: int, limit: int, projects: Collection[str], prices: Prices
    ) -> tuple[list[RunSummary], int]:
        """One page of the projects' training runs, newest first, and how many there are."""
        mine = select(runs).join(sessions).where(sessions.c.project_id.in_(projects))

        def work(connection: Connection) -> tuple[list[RunSummary], int]:
            total = connection.execute(select(func.count()).select_from(mine.subquery())).scalar_one()
            page = mine.order_by(runs.c.created_at.desc(), runs.c.id).offset(offset).limit(limit)
            return [_summary(connection, _run(row), prices) for row in connection.execute(page).all()], total

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

    async def join_sampler(self, sampler_id: str) -> int:
        """A number for one more client of a sampling session, never given before; its maker has 0."""

        def work(connection: Connection) -> int:
            mine = samplers.c.id == sampler_id
            connection.execute(update(samplers).where(mine).values(clones=samplers.c.clones + 1))
            return int(connection.execute(select(samplers.c.clones).where(mine)).scalar_one())

        return await self._database.run(work)

    async def checkpoint(self, path: CheckpointPath) -> Checkpoint:
        def work(connection: Connection) -> Checkpoint:
            row = connection.execute(select(checkpoints).where(checkpoints.c.path == str(path), _live())).first()
            if row is None:
                raise _gone(connection, path)
            return _checkpoint(row)

        return await self._database.run(work)

    async def has_checkpoint(self, path: CheckpointPath) -> bool:
        query = select(checkpoints.c.path).where(checkpoints.c.path == str(path), _live())
        return await self._database.run(lambda connection: connection.execute(query).first() is not None)

    async def checkpoints(
        self,
        run_id: str | None = None,
        offset: int = 0,
        limit: int | None = None,
        projects: Collection[str] | None = None,
    ) -> tuple[list[Checkpoint], int]:
        """Checkpoints of one run, of some projects or of all, newest first, and how many there are."""
        chosen = select(checkpoints).where(_live())
        if projects is not None:
            owned = runs.join(sessions, runs.c.session_id == sessions.c.id)
            chosen = chosen.join(owned, checkpoints.c.run_id == runs.c.id).where(sessions.c.project_id.in_(projects))
        if run_id is not None:
            chosen = chosen.where(checkpoints.c.run_id == run_id)
        page = chosen.order_by(checkpoints.c.created_at.desc(), checkpoints.c.path).offset(offset).limit(limit)

        def work(connection: Connection) -> tuple[list[Checkpoint], int]:
            total = connection.execute(select(func.count()).select_from(chosen.subquery())).scalar_one()
            return [_checkpoint(row) for row in connection.execute(page)], total

        return await self._database.run(work)

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

    async def change_checkpoint(
        self, path: CheckpointPath, values: dict[str, Any], event: str, key_id: int | None = None
    ) -> None:
        """`event` is what the audit log calls the change."""

        def work(connection: Connection) -> None:
            meter_storage(connection, time.time(), str(path))
            query = update(checkpoints).where(checkpoints.c.path == str(path), _live()).values(values)
            if not connection.execute(query).rowcount:
                raise _gone(connection, path)
            record_checkpoint_event(connection, event, path, key_id, values)

        await self._database.run(work)

    async def expired_checkpoints(self, now: float) -> list[Checkpoint]:
        query = select(checkpoints).where(checkpoints.c.expires_at <= now)
        return await self._database.run(lambda connection: [_checkpoint(row) for row in connection.execute(query)])

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

    async def trained_run_ids(self, session_id: str) -> list[str]:
        query = (
            select(runs.c.id)
            .where(runs.c.session_id == session_id, runs.c.copied_from.is_(None))
            .order_by(runs.c.created_at, runs.c.id)
        )
        return await self._database.run(lambda connection: list(connection.execute(query).scalars()))


def _matches(row: Row[Any], body: requests.SearchSessions) -> bool:
    """A session is found by its id or by all words of the name; everything else must hold as well."""
    named = []
    if body.session_id is not None:
        named.append(row.id == body.session_id)
    if body.display_name is not None:
        name = (row.display_name or "").lower()
        named.append(all(word in name for word in body.display_name.lower().split()))
    metadata = row.user_metadata or {}
    status = _status(row)
    return (
        (not named or any(named))
        and all(metadata.get(key) == value for key, value in body.user_metadata.items())
        and (
            body.statuses is None
            or any(
                one.type == status["type"] and (one.reasons is None or status["reason"]["type"] in one.reasons)
                for one in body.statuses
            )
        )
    )


def _status(row: Row[Any]) -> dict[str, Any]:
    if row.finished_at is None:
        return {"type": "active"}
    if row.finish_reason in ("success", "errored", "interrupted"):
        return {"type": "client_finished", "reason": {"type": row.finish_reason}, "detail": row.finish_detail}
    return {"type": "cancelled", "detail": row.finish_detail, "reason": {"type": row.finish_reason}}


def _found_session(connection: Connection, row: Row[Any]) -> FoundSession:
    count, size = connection.execute(
        select(func.count(), func.coalesce(func.sum(checkpoints.c.size_bytes), 0))
        .select_from(checkpoints)
        .join(runs, checkpoints.c.run_id == runs.c.id)
        .where(runs.c.session_id == row.id, _live())
    ).one()
    return FoundSession(
        row.id,
        row.created_at,
        row.project_id,
        row.user_id or accounts.LOCAL,
        _status(row),
        row.display_name,
        row.user_metadata,
        count,
        int(size),
    )


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


def move_inflight(connection: Connection, run_id: str, version: str) -> list[str]:
    """Let all inflight samplers of a run go on with newer weights; returns the directories of the older ones."""
    following = samplers.c.inflight == run_id
    older = connection.execute(select(samplers.c.version).where(following).distinct()).scalars().all()
    connection.execute(update(samplers).where(following).values(version=version))
    return [directory for directory in older if directory != version]


def put_checkpoint(connection: Connection, checkpoint: Checkpoint, overwrite: bool) -> list[str]:
    """Keep a checkpoint under its path; returns the directory of the one that it replaces."""
    path = str(checkpoint.path)
    previous = connection.execute(select(checkpoints).where(checkpoints.c.path == path)).first()
    if previous is not None:
        if not overwrite and not _checkpoint(previous).expired(time.time()):
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


def _live() -> ColumnElement[bool]:
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


def _summary(connection: Connection, run: Run, prices: Prices) -> RunSummary:
    owner = connection.execute(
        select(sessions.c.project_id, api_keys.c.user_id)
        .outerjoin(api_keys, sessions.c.key_id == api_keys.c.id)
        .where(sessions.c.id == run.session_id)
    ).first()
    assert owner is not None
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
        owner.user_id or accounts.LOCAL,
        # what others pay for sampling a published checkpoint is theirs
        spent(connection, prices, Filter([owner.project_id], run_id=run.id)) if prices.table else 0.0,
    )


def _newest_checkpoint(connection: Connection, run_id: str, kind: str) -> Checkpoint | None:
    query = (
        select(checkpoints)
        .where(checkpoints.c.run_id == run_id, checkpoints.c.kind == kind, _live())
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
        row.copied_from,
    )


def _sampler(row: Row[Any]) -> Sampler:
    return Sampler(row.id, row.session_id, row.base_model, row.model_path, row.version, row.ephemeral, row.inflight)


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
