"""The journal: an accepted operation is on disk before its submission is answered, and its answer stays there.

What `lane` means: operations of one lane are numbered by the client. A model is a lane whose numbers give the order; a
sampling session is a lane without order.
"""

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select, update

from hone.errors import DiskFullError, NotFoundError, UserError
from hone.observe import metrics
from hone.protocol.futures import MediaType, Outcome
from hone.server import ids, usage
from hone.storage.database import Database
from hone.storage.tables import operations, runs

log = logging.getLogger(__name__)

NUMBERS_PER_SECOND = 1_000_000
"""Answers are numbered by the microsecond: what a float of seconds since 1970 still tells apart."""
FORGET_AT_ONCE = 1000
"""Names in one statement; databases bound how many it may hold."""
ROOM_SECONDS = 1.0
"""How often an answer that found the disk full is tried again."""

# What every operation asks the database. Made once: making a statement costs several times what running it does.
_DIGEST = select(operations.c.digest).where(operations.c.request_id == bindparam("request"))
_ANSWER = update(operations).where(operations.c.request_id == bindparam("request"))
_FIRST_ANSWER = _ANSWER.where(operations.c.finished_at.is_(None))
_OUTCOME = select(operations.c.finished_at, operations.c.failed, operations.c.media_type, operations.c.outcome).where(
    operations.c.request_id == bindparam("request")
)
_COMPLETIONS = (
    select(
        operations.c.finished_at,
        operations.c.request_id,
        operations.c.failed,
        func.length(operations.c.outcome).label("size"),
    )
    .where(
        operations.c.lane == bindparam("lane"),
        operations.c.finished_at > bindparam("after"),
        operations.c.seq_id >= bindparam("first"),
        operations.c.seq_id < bindparam("end"),
        operations.c.outcome.is_not(None),
    )
    .order_by(operations.c.finished_at)
    .limit(bindparam("at_most"))
)
_FORGET = (
    update(operations)
    .where(
        operations.c.request_id.in_(bindparam("requests", expanding=True)),
        operations.c.lane == bindparam("of_lane"),
        operations.c.finished_at.is_not(None),
    )
    .values(outcome=None)
)

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
    key_id: int | None = None
    """The API key that asked."""
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


@dataclass(frozen=True)
class Completion:
    """That a request was answered; `number` orders the answers of the whole server, also beyond its restarts."""

    number: int
    request_id: str
    failed: bool
    size: int


@dataclass(frozen=True)
class Passed:
    """How a pass over data went in the engine."""

    cycle: int
    """The last micro-batch that it was in."""
    queue_seconds: float
    batch_fill: float
    device_seconds: float
    """Its share of its micro-batches."""


@dataclass(frozen=True)
class Timed:
    """When an operation was accepted and answered."""

    request_id: str
    lane: str
    seq_id: int
    kind: str
    accepted_at: float
    finished_at: float | None
    state: str
    passed: Passed | None = None


def canonical(fields: dict[str, Any]) -> bytes:
    """A JSON body in the one form in which equal content is equal bytes."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


class Journal:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._last_number: int | None = None
        """Of the newest answer; None until the first one of this server. Belongs to the database's thread."""

    async def accept(self, entry: Entry) -> bool:
        """Write the entry down. False: the same was accepted before. `UserError`: another one was, under its number."""
        digest = hashlib.blake2b(
            entry.kind.encode() + b"\0" + (entry.payload if entry.identity is None else entry.identity), digest_size=16
        ).digest()

        def work(connection: Connection) -> bool:
            known = connection.execute(_DIGEST, {"request": entry.request_id}).scalar()
            if known is None:
                connection.execute(operations.insert(), _row(entry, digest))
            elif known != digest:
                raise UserError(
                    f"seq_id {entry.seq_id} of {entry.lane} was used by another request; each needs a number of its own"
                )
            return known is None

        return await self._database.run(work)

    def finish(
        self,
        entry: Entry,
        outcome: Outcome,
        write: Write | None = None,
        amounts: usage.Amounts = usage.NOTHING,
        passed: Passed | None = None,
    ) -> "asyncio.Future[list[str]]":
        """Keep the answer, together with what the operation changed and used; either all are kept or nothing.

        While the disk is full this waits: the work is done, and only its answer has nowhere to go.
        """

        def work(connection: Connection) -> list[str]:
            obsolete = write(connection) if write else []
            values: dict[str, Any] = {
                "request": entry.request_id,
                "finished_at": self._next_number(connection) / NUMBERS_PER_SECOND,
                "failed": outcome.failed,
                "media_type": outcome.media_type,
                "outcome": outcome.content,
                "engine": None if passed is None else asdict(passed),
            }
            if entry.samples:
                values["payload"] = None  # a sample changes nothing, so nothing will ask for it again
            if connection.execute(_FIRST_ANSWER, values).rowcount:
                usage.record(connection, entry.lane, entry.key_id, amounts)
            else:
                connection.execute(_ANSWER, values)
            return obsolete

        async def keep(kept: "asyncio.Future[list[str]]") -> list[str]:
            while True:
                try:
                    obsolete = await kept
                except DiskFullError as error:
                    log.error("the answer to %s is not kept yet: %s", entry.request_id, error)
                    await asyncio.sleep(ROOM_SECONDS)
                    kept = self._database.run(work)
                else:
                    metrics.count_operation(entry.kind, outcome.failed, vars(amounts))
                    if passed is not None:
                        metrics.count_pass(passed.queue_seconds, passed.batch_fill, passed.device_seconds)
                    return obsolete

        return asyncio.ensure_future(keep(self._database.run(work)))

    def _next_number(self, connection: Connection) -> int:
        """The time in microseconds, or a little more where that is needed to rise above every earlier one: so clocks
        may jump, and pollers still see each answer once."""
        if self._last_number is None:
            newest = connection.execute(select(func.max(operations.c.finished_at))).scalar()
            self._last_number = 0 if newest is None else round(newest * NUMBERS_PER_SECOND)
        self._last_number = max(round(time.time() * NUMBERS_PER_SECOND), self._last_number + 1)
        return self._last_number

    async def completions(self, lane: str, first: int, end: int, after: int, limit: int) -> list[Completion]:
        """Which of the requests `first` <= seq_id < `end` were answered after number `after`, in that order."""
        wanted = {
            "lane": lane,
            # half a number of room: the column holds seconds, which do not divide evenly
            "after": (after + 0.5) / NUMBERS_PER_SECOND,
            "first": first,
            "end": end,
            "at_most": limit,
        }
        return await self._database.run(
            lambda connection: [
                Completion(round(row.finished_at * NUMBERS_PER_SECOND), row.request_id, row.failed, row.size)
                for row in connection.execute(_COMPLETIONS, wanted)
            ]
        )

    async def forget(self, lane: str, request_ids: list[str]) -> None:
        """Drop the answers to these requests of a lane: their client has them."""
        chunks = [request_ids[i : i + FORGET_AT_ONCE] for i in range(0, len(request_ids), FORGET_AT_ONCE)]

        def work(connection: Connection) -> None:
            for chunk in chunks:
                connection.execute(_FORGET, {"requests": chunk, "of_lane": lane})

        await self._database.run(work)

    async def outcome(self, request: str) -> Outcome | None:
        """The answer to a request; None while there is none."""
        row = await self._database.run(lambda connection: connection.execute(_OUTCOME, {"request": request}).first())
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

    async def timed(self, lanes: list[str]) -> list[Timed]:
        """Every operation of some lanes, in the order of acceptance."""
        names = ("request_id", "lane", "seq_id", "kind", "accepted_at", "finished_at", "failed", "engine")
        query = (
            select(*(operations.c[name] for name in names))
            .where(operations.c.lane.in_(lanes))
            .order_by(operations.c.accepted_at)
        )
        states = {None: "unfinished", False: "succeeded", True: "failed"}
        return await self._database.run(
            lambda connection: [
                Timed(
                    row.request_id,
                    row.lane,
                    row.seq_id,
                    row.kind,
                    row.accepted_at,
                    row.finished_at,
                    states[row.failed],
                    None if row.engine is None else Passed(**row.engine),
                )
                for row in connection.execute(query)
            ]
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
        "key_id": entry.key_id,
        "accepted_at": time.time(),
    }


def _entry(row: Row[Any]) -> Entry:
    return Entry(row.lane, row.seq_id, row.kind, bytes(row.payload or b""), row.seed, row.samples, row.key_id)
