"""The journal: an accepted operation is on disk before its submission is answered, and its answer stays there.

What `lane` means: operations of one lane are numbered by the client. A model is a lane whose numbers give the order; a
sampling session is a lane without order.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from hone.errors import NotFoundError, UserError
from hone.protocol.futures import MediaType, Outcome
from hone.server import ids
from hone.storage.database import Database
from hone.storage.tables import operations, runs

Write = Callable[[Connection], list[str]]
"""What a finished operation changes in the database beside its answer; returns directories that nothing names now."""


@dataclass(frozen=True)
class Entry:
    """One operation as it was accepted."""

    lane: str
    seq_id: int
    kind: str
    payload: bytes
    seed: int
    """Taken for whatever is random in the operation and was not fixed by the client."""
    samples: int = 0
    identity: bytes | None = None
    """What a repeated submission has in common with the first, where that is less than the payload."""

    @property
    def request_id(self) -> str:
        return ids.request_id(self.lane, self.seq_id)


@dataclass(frozen=True)
class Answered:
    """An entry of the past with what became of it: None while it is unfinished, else whether it failed."""

    entry: Entry
    failed: bool | None


def canonical(fields: dict[str, Any]) -> bytes:
    """A JSON body in the one form in which equal content is equal bytes."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


class Journal:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def accept(self, entry: Entry) -> bool:
        """Write the entry down. False: the same was accepted before. `UserError`: another one was, under its number."""
        digest = hashlib.blake2b(
            entry.kind.encode() + b"\0" + (entry.payload if entry.identity is None else entry.identity), digest_size=16
        ).digest()

        def work(connection: Connection) -> bool:
            known = connection.execute(
                select(operations.c.digest).where(operations.c.request_id == entry.request_id)
            ).scalar()
            if known is None:
                connection.execute(operations.insert(), _row(entry, digest))
            elif known != digest:
                raise UserError(
                    f"seq_id {entry.seq_id} of {entry.lane} was used by another request; each needs a number of its own"
                )
            return known is None

        return await self._database.run(work)

    def finish(self, entry: Entry, outcome: Outcome, write: Write | None = None) -> "asyncio.Future[list[str]]":
        """Keep the answer, together with what the operation changed; either both are kept or neither."""

        def work(connection: Connection) -> list[str]:
            obsolete = write(connection) if write else []
            values: dict[str, Any] = {
                "finished_at": time.time(),
                "failed": outcome.failed,
                "media_type": outcome.media_type,
                "outcome": outcome.content,
            }
            if entry.samples:
                values["payload"] = None  # a sample changes nothing, so nothing will ask for it again
            connection.execute(update(operations).where(operations.c.request_id == entry.request_id).values(values))
            return obsolete

        return self._database.run(work)

    async def outcome(self, request: str) -> Outcome | None:
        """The answer to a request; None while there is none."""
        row = await self._database.run(
            lambda connection: connection.execute(
                select(
                    operations.c.finished_at, operations.c.failed, operations.c.media_type, operations.c.outcome
                ).where(operations.c.request_id == request)
            ).first()
        )
        if row is None:
            raise NotFoundError(f"request_id {request!r} is unknown; it is the one that a submission was answered with")
        if row.finished_at is None:
            return None
        if row.outcome is None:
            raise NotFoundError(f"the result of {request!r} is no longer kept; see HONE_RESULT_RETENTION_HOURS")
        media_type: MediaType = row.media_type
        return Outcome(bytes(row.outcome), media_type, row.failed)

    async def unfinished(self) -> list[Entry]:
        query = (
            select(operations)
            .where(operations.c.finished_at.is_(None))
            .order_by(operations.c.lane, operations.c.seq_id)
        )
        return await self._database.run(lambda connection: [_entry(row) for row in connection.execute(query)])

    async def last_finished(self, lane: str) -> int:
        """The highest number of a lane that was answered; -1 if none was."""
        query = select(func.max(operations.c.seq_id)).where(
            operations.c.lane == lane, operations.c.finished_at.is_not(None)
        )
        found = await self._database.run(lambda connection: connection.execute(query).scalar())
        return -1 if found is None else int(found)

    async def history(self, lane: str, after: int, through: int) -> list[Answered]:
        """The entries numbered `after` < n <= `through`, in order."""
        query = (
            select(operations)
            .where(operations.c.lane == lane, operations.c.seq_id > after, operations.c.seq_id <= through)
            .order_by(operations.c.seq_id)
        )
        return await self._database.run(
            lambda connection: [Answered(_entry(row), row.failed) for row in connection.execute(query)]
        )

    async def sample_counts(self, lane: str, seq_ids: list[int]) -> dict[int, int]:
        """How many sequences each of these samples drew; unknown numbers are left out."""
        query = select(operations.c.seq_id, operations.c.samples).where(
            operations.c.lane == lane, operations.c.seq_id.in_(seq_ids)
        )
        return await self._database.run(
            lambda connection: {row.seq_id: row.samples for row in connection.execute(query)}
        )

    async def cover(self, lane: str, seq_id: int, directory: str | None) -> str | None:
        """A snapshot at `directory` holds a model up to `seq_id`: drop those requests. Returns the one it replaces.

        Without a directory the model is over, and so is the need for its requests.
        """

        def work(connection: Connection) -> str | None:
            previous = connection.execute(
                select(runs.c.snapshot_seq, runs.c.snapshot_directory).where(runs.c.id == lane)
            ).first()
            covered = -1 if previous is None or previous.snapshot_seq is None else previous.snapshot_seq
            connection.execute(
                update(runs).where(runs.c.id == lane).values(snapshot_seq=seq_id, snapshot_directory=directory)
            )
            connection.execute(
                update(operations)
                .where(operations.c.lane == lane, operations.c.seq_id > covered, operations.c.seq_id <= seq_id)
                .values(payload=None)
            )
            return None if previous is None else previous.snapshot_directory

        return await self._database.run(work)

    async def prune(self, finished_before: float) -> None:
        """Forget old answers. Their rows stay: they tell repeated submissions from new ones."""
        query = (
            update(operations)
            .where(operations.c.finished_at < finished_before, operations.c.outcome.is_not(None))
            .values(outcome=None)
        )
        await self._database.run(lambda connection: connection.execute(query).rowcount)


def _row(entry: Entry, digest: bytes) -> dict[str, Any]:
    return {
        "request_id": entry.request_id,
        "lane": entry.lane,
        "seq_id": entry.seq_id,
        "kind": entry.kind,
        "digest": digest,
        "payload": entry.payload,
        "seed": entry.seed,
        "samples": entry.samples,
        "accepted_at": time.time(),
    }


def _entry(row: Row[Any]) -> Entry:
    return Entry(row.lane, row.seq_id, row.kind, bytes(row.payload or b""), row.seed, row.samples)
