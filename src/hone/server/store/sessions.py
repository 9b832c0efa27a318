"""Sessions: what clients opened."""

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, func, not_, or_, select, update

from hone.errors import NotFoundError
from hone.identity import accounts, audit
from hone.protocol import requests
from hone.server.store.checkpoints import live
from hone.storage.database import Database
from hone.storage.tables import api_keys, checkpoints, runs, samplers, sessions


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


class SessionStore:
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
            found = connection.execute(select(sessions.c.project_id).where(sessions.c.id == session_id)).first()
            if found is None:
                raise NotFoundError(f"session {session_id!r} does not exist")
            connection.execute(update(sessions).where(sessions.c.id == session_id).values(project_id=project_id))
            details = {"session_id": session_id, "from_project_id": found.project_id, "key_id": caller.key.id}
            audit.record(connection, "session_project_set", caller.organization_id, project_id, details)

        await self._database.run(work)

    async def open_sessions(self) -> list[str]:
        query = select(sessions.c.id).where(sessions.c.finished_at.is_(None))
        return await self._database.run(lambda connection: list(connection.execute(query).scalars()))

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
        .where(runs.c.session_id == row.id, live())
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
