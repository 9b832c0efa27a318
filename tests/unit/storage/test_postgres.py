"""What only a database behind a connection can do: go away, come back, and be used by two servers."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, select

from hone.errors import ServerError, UserError
from hone.storage import postgres as on_postgres
from hone.storage.database import Database
from hone.storage.tables import sessions
from tests.support.databases import PostgresDatabases, needs_postgres

pytestmark = needs_postgres


@pytest.fixture
def url(postgres: PostgresDatabases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr("hone.storage.database.RECONNECT_SECONDS", 0.01)
    monkeypatch.setattr(on_postgres, "WAIT_FOR_SERVER_SECONDS", 0.2)
    yield postgres.url(tmp_path)
    postgres.recycle()


def insert(connection: Connection, name: str) -> None:
    connection.execute(sessions.insert(), {"id": name, "created_at": 0.0, "tags": [], "sdk_version": ""})


def names(connection: Connection) -> list[str]:
    return sorted(connection.execute(select(sessions.c.id)).scalars())


def end_connection(url: str, pid: int | None = None) -> None:
    """As a restart of Postgres does, or a network that fails: one connection, or all there are."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid = %(pid)s "
            "OR %(pid)s::int IS NULL AND pid <> pg_backend_pid() AND datname = current_database()",
            {"pid": pid},
        )


def test_a_lost_connection_is_made_again(url: str) -> None:
    database = Database(url, sole=True)

    async def run() -> list[str]:
        await database.run(lambda c: insert(c, "before"))
        end_connection(url)
        await database.run(lambda c: insert(c, "after"))
        return await database.run(names)

    assert asyncio.run(run()) == ["after", "before"]
    database.close()


@pytest.mark.parametrize("at", ["a job", "the commit", "the answer to the commit"])
def test_jobs_take_effect_once_wherever_the_connection_is_lost(
    at: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(url)
    tries = 0

    def add(connection: Connection) -> None:
        """A job that does something else when it is repeated after it took effect."""
        nonlocal tries
        tries += 1
        insert(connection, f"{len(names(connection))}")
        if tries == 1:
            driver: Any = connection.connection.driver_connection
            if at == "a job":
                end_connection(url, driver.info.backend_pid)
            else:
                monkeypatch.setattr(driver, "commit", lambda commit=driver.commit: lose(driver, commit))

    def lose(driver: Any, commit: Any) -> None:
        if at == "the answer to the commit":
            commit()
        end_connection(url, driver.info.backend_pid)
        commit()

    async def run() -> list[str]:
        gate, started = threading.Event(), threading.Event()
        first = database.run(lambda _: (started.set(), gate.wait(5)))
        started.wait(5)
        jobs = [database.run(lambda c: insert(c, "a")), database.run(add), database.run(lambda c: insert(c, "b"))]
        gate.set()
        await asyncio.gather(first, *jobs)
        return await database.run(names)

    assert asyncio.run(run()) == ["1", "a", "b"]
    assert tries == (1 if at == "the answer to the commit" else 2)
    database.close()


def test_a_job_that_ends_every_connection_is_given_up(url: str) -> None:
    database = Database(url)

    def harm(connection: Connection) -> None:
        insert(connection, "harmful")
        driver: Any = connection.connection.driver_connection
        end_connection(url, driver.info.backend_pid)

    async def run() -> list[str]:
        with pytest.raises(ServerError, match="lost 5 times"):
            await database.run(harm)
        return await database.run(names)

    assert asyncio.run(run()) == []
    database.close()


def test_a_database_that_stays_away_does_not_keep_a_server_from_stopping(url: str) -> None:
    database = Database(url, sole=True)
    end_connection(url)
    other = Database(url, sole=True)  # so that the first cannot come back

    async def run() -> None:
        job = database.run(names)
        await asyncio.to_thread(database.close)
        with pytest.raises(ServerError, match="could not be reached"):
            await job

    asyncio.run(run())
    other.close()


def test_a_second_server_is_refused(url: str) -> None:
    first = Database(url, sole=True)
    with pytest.raises(UserError, match="in use by another server"):
        Database(url, sole=True)
    first.close()
    Database(url, sole=True).close()
