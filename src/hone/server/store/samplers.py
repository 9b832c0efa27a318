"""Sampling sessions, and which weights each of them samples."""

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select, update

from hone.errors import NotFoundError, UserError
from hone.storage.database import Database
from hone.storage.tables import samplers


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


class SamplerStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def sampler(self, sampler_id: str) -> Sampler:
        row = await self._database.run(
            lambda connection: connection.execute(select(samplers).where(samplers.c.id == sampler_id)).first()
        )
        if row is None:
            raise NotFoundError(f"sampling_session_id {sampler_id!r} is unknown on this server")
        return _sampler(row)

    async def insert_sampler(self, sampler: Sampler) -> None:
        await self._database.run(lambda connection: insert_sampler(connection, sampler))

    async def join_sampler(self, sampler_id: str) -> int:
        """A number for one more client of a sampling session, never given before; its maker has 0."""

        def work(connection: Connection) -> int:
            mine = samplers.c.id == sampler_id
            connection.execute(update(samplers).where(mine).values(clones=samplers.c.clones + 1))
            return int(connection.execute(select(samplers.c.clones).where(mine)).scalar_one())

        return await self._database.run(work)

    async def ephemeral_versions(self, session_id: str) -> list[str]:
        query = select(samplers.c.version).where(samplers.c.session_id == session_id, samplers.c.ephemeral)
        return await self._database.run(lambda connection: list(connection.execute(query).scalars()))


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


def _sampler(row: Row[Any]) -> Sampler:
    return Sampler(row.id, row.session_id, row.base_model, row.model_path, row.version, row.ephemeral, row.inflight)
