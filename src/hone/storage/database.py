"""One thread that owns the database. Work that waits while a transaction commits shares the next one (group commit)."""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import OperationalError

from hone.errors import DiskFullError
from hone.storage.migrations import upgrade

T = TypeVar("T")

MAX_GROUP = 256
"""Jobs in one transaction: enough to share a commit, few enough that nobody waits long."""


@dataclass(frozen=True, eq=False)
class _Job:
    work: Callable[[Connection], Any]
    done: "Future[Any]"


class Database:
    """Jobs take effect in the order of the `run` calls; each takes effect as a whole or not at all."""

    def __init__(self, url: str, sqlite_synchronous: str = "NORMAL") -> None:
        self._engine = _connectable(url, sqlite_synchronous)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        upgrade(self._engine)
        self._thread = threading.Thread(target=self._write, name="database", daemon=True)
        self._thread.start()

    def run(self, work: Callable[[Connection], T]) -> "asyncio.Future[T]":
        """Do `work` on the database thread; the future is done once its transaction is committed."""
        done: Future[T] = Future()
        self._jobs.put(_Job(work, done))
        return asyncio.wrap_future(done)

    def close(self) -> None:
        """Finish the jobs under way, then close."""
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
                _commit(connection, group)
                if closing:
                    return


def _commit(connection: Connection, group: list[_Job]) -> None:
    """Run a group in one transaction. Whoever no longer waits for a job does not keep it from taking effect."""
    waited_for = [job for job in group if job.done.set_running_or_notify_cancel()]
    results: dict[_Job, Any] = {}
    errors: dict[_Job, Exception] = {}
    try:
        with connection.begin():
            for job in group:
                if len(group) == 1:
                    results[job] = job.work(connection)  # the transaction is savepoint enough
                    break
                try:
                    with connection.begin_nested():
                        results[job] = job.work(connection)
                except OperationalError:
                    raise  # of a full disk, say: the transaction may be gone, and with it what the others did
                except Exception as error:
                    errors[job] = error
    except Exception as error:  # nothing of the group happened
        failure = _named(error)
        errors = {job: errors.get(job, failure) for job in group}
    for job in waited_for:
        if job in errors:
            job.done.set_exception(errors[job])
        else:
            job.done.set_result(results[job])


def _named(error: Exception) -> Exception:
    """A full disk under its own name; everything else as it is."""
    cause: BaseException | None = error
    while cause is not None:
        told = getattr(cause, "orig", None)
        if getattr(told, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL or getattr(told, "sqlstate", "") == "53100":
            return DiskFullError("the disk that holds the database is full; the work goes on when there is room again")
        cause = cause.__context__  # SQLite may end the transaction, so that the way out of it fails once more
    return error


def _connectable(url: str, sqlite_synchronous: str) -> Engine:
    engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def configure(connection: Any, _: Any) -> None:
            # The driver's own transaction handling breaks savepoints; SQLAlchemy's `begin` below takes its place.
            connection.isolation_level = None
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={sqlite_synchronous}")
            connection.execute("PRAGMA busy_timeout=10000")
            connection.execute("PRAGMA foreign_keys=ON")

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
