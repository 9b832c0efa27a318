"""One thread that owns the database. Work that waits while a transaction commits shares the next one (group commit)."""

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, OperationalError

from hone.errors import DiskFullError, ServerError, UserError
from hone.storage import postgres
from hone.storage.migrations import upgrade

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_GROUP = 256
"""Jobs in one transaction: enough to share a commit, few enough that nobody waits long."""

RECONNECT_SECONDS = 0.5
ATTEMPTS = 5
"""Connections that one group of jobs may lose before it is taken for the cause."""


@dataclass(frozen=True, eq=False)
class _Job:
    work: Callable[[Connection], Any]
    done: "Future[Any]"


@dataclass
class _Attempt:
    """What became of a group in one transaction."""

    number: int = 1
    transaction: str | None = None
    results: dict[_Job, Any] = field(default_factory=dict)
    errors: dict[_Job, Exception] = field(default_factory=dict)
    failure: Exception | None = None
    """Set if nothing of the group happened, as far as we were told."""


class Database:
    """Jobs take effect in the order of the `run` calls; each takes effect as a whole or not at all.

    A job may run more than once before it takes effect: when the connection to the database was lost, its group waits
    for the next one, finds out whether it was committed, and if not, runs again.
    """

    def __init__(self, url: str, sqlite_synchronous: str = "NORMAL", sole: bool = False) -> None:
        """With `sole`, a second server on a Postgres database is refused; SQLite's is kept out of its directory."""
        self._engine = _connectable(url, sqlite_synchronous, sole)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        try:
            upgrade(self._engine)
        except OperationalError as error:
            self._engine.dispose()
            shown = self._engine.url.render_as_string(hide_password=True)
            raise UserError(f"the database {shown} cannot be used: {_told(error)}; check HONE_DATABASE_URL") from error
        self._thread = threading.Thread(target=self._write, name="database", daemon=True)
        self._thread.start()

    def run(self, work: Callable[[Connection], T]) -> "asyncio.Future[T]":
        """Do `work` on the database thread; the future is done once its transaction is committed."""
        done: Future[T] = Future()
        self._jobs.put(_Job(work, done))
        return asyncio.wrap_future(done)

    def close(self) -> None:
        """Finish the jobs under way, then close."""
        self._closing.set()
        self._jobs.put(None)
        self._thread.join()
        self._engine.dispose()

    def _write(self) -> None:
        with self._engine.connect() as connection:
            while (first := self._jobs.get()) is not None:
                group = [first]
                closing = False
                while len(group) < MAX_GROUP and not self._jobs.empty():
                    job = self._jobs.get()
                    if job is None:
                        closing = True
                        break
                    group.append(job)
                self._commit(connection, group)
                if closing:
                    return

    def _commit(self, connection: Connection, group: list[_Job]) -> None:
        """Have a group take effect. Whoever no longer waits for a job does not keep it from doing so."""
        waited_for = [job for job in group if job.done.set_running_or_notify_cancel()]
        attempt = _attempt(connection, group)
        while connection.invalidated:
            log.warning("the connection to the database was lost (%s); trying again", _told(attempt.failure))
            if self._closing.wait(RECONNECT_SECONDS):
                attempt.failure = ServerError("the database could not be reached when the server stopped")
                break
            attempt = _settle(connection, group, attempt)
        attempts = dict.fromkeys(group, attempt)
        if len(group) > 1 and attempt.failure is not None and _tells_of_a_full_disk(attempt.failure):
            attempts = {job: _attempt(connection, [job]) for job in group}  # reading needs no room, little needs little
        for job in waited_for:
            error = attempts[job].errors.get(job, attempts[job].failure)
            if error is not None:
                job.done.set_exception(_attributed(error))
            else:
                job.done.set_result(attempts[job].results[job])


def _attempt(connection: Connection, group: list[_Job], number: int = 1) -> _Attempt:
    """Run a group in one transaction."""
    attempt = _Attempt(number)
    try:
        with connection.begin():
            attempt.transaction = postgres.transaction_id(connection)
            for job in group:
                if len(group) == 1:
                    attempt.results[job] = job.work(connection)  # the transaction is savepoint enough
                    break
                try:
                    with connection.begin_nested():
                        attempt.results[job] = job.work(connection)
                except OperationalError:
                    raise  # of a full disk, say: the transaction may be gone, and with it what the others did
                except Exception as error:
                    attempt.errors[job] = error
    except Exception as error:
        attempt.failure = error
    return attempt


def _settle(connection: Connection, group: list[_Job], lost: _Attempt) -> _Attempt:
    """What became of a group whose connection was lost: it is run again unless its commit went through."""
    try:
        if postgres.took_effect(connection, lost.transaction):
            lost.failure = None
            return lost
    except (DBAPIError, UserError) as error:
        lost.failure = error
        return lost  # not to be reached yet
    if lost.transaction is None:  # it could not even begin, which is no fault of the group
        return _attempt(connection, group, lost.number)
    if lost.number == ATTEMPTS:
        lost.failure = ServerError(f"the connection to the database was lost {ATTEMPTS} times: {_told(lost.failure)}")
        return lost
    return _attempt(connection, group, lost.number + 1)


def _attributed(error: Exception) -> Exception:
    """Whose fault it is. Values that no database holds came from a request: lone surrogates, NUL in Postgres, numbers
    beyond 64 bits."""
    if isinstance(error, DataError | UnicodeEncodeError | OverflowError):
        return UserError(f"a text or number in the request cannot be kept: {_told(error)}")
    if _tells_of_a_full_disk(error):
        return DiskFullError("the disk that holds the database is full; the work goes on when there is room again")
    return error


def _tells_of_a_full_disk(error: Exception) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        told = getattr(cause, "orig", None)
        if getattr(told, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL or getattr(told, "sqlstate", "") == "53100":
            return True
        cause = cause.__context__  # SQLite may end the transaction, so that the way out of it fails once more
    return False


def _told(error: Exception | None) -> str:
    """In one line and the database's own words, without the statement and its values."""
    return " ".join(str(getattr(error, "orig", None) or error).split())


def _connectable(url: str, sqlite_synchronous: str, sole: bool) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise UserError(
            "HONE_DATABASE_URL is no URL; it must be like sqlite:///FILE or postgresql://HOST/NAME"
        ) from None
    match parsed.get_backend_name():
        case "sqlite":
            return _sqlite(parsed, sqlite_synchronous)
        case "postgresql" | "postgres":
            return postgres.connectable(parsed, sole)
    raise UserError(f"HONE_DATABASE_URL names {parsed.get_backend_name()}; it must be sqlite or postgresql")


def _sqlite(url: URL, synchronous: str) -> Engine:
    engine = create_engine(url, hide_parameters=True)  # errors are logged, and requests are private

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        # The driver's own transaction handling breaks savepoints; SQLAlchemy's `begin` below takes its place.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute("PRAGMA busy_timeout=10000")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
