import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, text

from hone.errors import DiskFullError, UserError
from hone.storage.database import Database
from hone.storage.tables import sessions
from tests.support.databases import Databases


@pytest.fixture
def database(any_database: Databases, tmp_path: Path) -> Iterator[Database]:
    database = Database(any_database.url(tmp_path))
    yield database
    database.close()


def insert(connection: Connection, name: str) -> None:
    connection.execute(sessions.insert(), {"id": name, "created_at": 0.0, "tags": [], "sdk_version": ""})


def names(connection: Connection) -> list[str]:
    return sorted(connection.execute(select(sessions.c.id)).scalars())


def test_a_failed_job_leaves_nothing_and_its_neighbours_everything(database: Database) -> None:
    def half(connection: Connection) -> None:
        insert(connection, "half")
        raise LookupError("on purpose")

    async def run() -> tuple[list[object], list[str]]:
        gate, started = threading.Event(), threading.Event()
        first = database.run(lambda _: (started.set(), gate.wait(5)))  # so that those that follow share a transaction
        started.wait(5)
        jobs = [database.run(lambda c: insert(c, "a")), database.run(half), database.run(lambda c: insert(c, "b"))]
        gate.set()
        await first
        return list(await asyncio.gather(*jobs, return_exceptions=True)), await database.run(names)

    results, found = asyncio.run(run())
    assert [type(result) for result in results] == [type(None), LookupError, type(None)]
    assert found == ["a", "b"]


def test_waiting_jobs_share_a_commit(database: Database) -> None:
    commits = []

    async def run() -> None:
        await database.run(lambda c: c.execute(text("SELECT 1")).scalar())
        gate, started = threading.Event(), threading.Event()
        first = database.run(lambda _: (started.set(), gate.wait(5)))
        started.wait(5)
        jobs = [
            database.run(lambda c, i=i: (insert(c, f"{i:02}"), commits.append(c.get_transaction()))) for i in range(50)
        ]
        gate.set()
        await asyncio.gather(first, *jobs)

    asyncio.run(run())
    assert len({id(transaction) for transaction in commits}) == 1


def test_the_database_survives_and_needs_no_second_migration(any_database: Databases, tmp_path: Path) -> None:
    url = any_database.url(tmp_path)
    first = Database(url, sole=True)
    asyncio.run(_wait(first, lambda c: insert(c, "kept")))
    first.close()
    second = Database(url, sole=True)
    assert asyncio.run(_wait(second, names)) == ["kept"]
    if any_database.kind == "sqlite":
        assert asyncio.run(_wait(second, lambda c: c.execute(text("PRAGMA journal_mode")).scalar())) == "wal"
    second.close()


async def _wait(database: Database, work: object) -> object:
    return await database.run(work)  # type: ignore[arg-type]


def test_a_job_nobody_waits_for_takes_effect_and_the_thread_goes_on(database: Database) -> None:
    async def run() -> list[str]:
        gate = threading.Event()
        started = threading.Event()
        running = database.run(lambda c: (started.set(), gate.wait(5), insert(c, "running")))
        waiting = database.run(lambda c: insert(c, "waiting"))
        started.wait(5)
        running.cancel()
        waiting.cancel()
        gate.set()
        return await database.run(names)

    assert asyncio.run(run()) == ["running", "waiting"]


def test_a_job_that_fails_alone_leaves_nothing(database: Database) -> None:
    def half(connection: Connection) -> None:
        insert(connection, "half")
        raise LookupError("on purpose")

    async def run() -> list[str]:
        with pytest.raises(LookupError):
            await database.run(half)
        return await database.run(names)

    assert asyncio.run(run()) == []


def test_two_processes_take_turns(any_database: Databases, tmp_path: Path) -> None:
    """What reads and then writes, such as the next number of a key, finds nobody in between."""
    server, command = (Database(any_database.url(tmp_path)) for _ in range(2))

    def add(connection: Connection) -> None:
        insert(connection, f"{len(names(connection)):03}")

    async def run() -> list[str]:
        await asyncio.gather(*(database.run(add) for _ in range(40) for database in (server, command)))
        return await server.run(names)

    assert asyncio.run(run()) == [f"{number:03}" for number in range(80)]
    server.close()
    command.close()


def test_an_unknown_kind_of_database_is_refused() -> None:
    with pytest.raises(UserError, match="names mysql; it must be sqlite or postgresql"):
        Database("mysql://localhost/hone")


def test_a_database_that_is_not_there_is_refused_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be used: .*; check HONE_DATABASE_URL") as refused:
        Database(f"postgresql://hone:secret@/none?host={tmp_path}")
    assert "secret" not in str(refused.value)


def test_a_full_disk_fails_by_name_what_has_no_room_and_nothing_else(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/hone.db")

    def limit(connection: Connection, pages: int) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    def large(connection: Connection) -> None:
        for i in range(50):
            insert(connection, f"{i}" * 5000)

    async def run() -> tuple[list[object], list[str]]:
        used = await database.run(lambda c: int(c.exec_driver_sql("PRAGMA page_count").scalar() or 0))
        await database.run(lambda c: limit(c, used + 4))
        gate = threading.Event()
        first = database.run(lambda _: gate.wait(5))
        jobs = [database.run(lambda c: insert(c, "a")), database.run(large), database.run(lambda c: insert(c, "b"))]
        gate.set()
        results = list(await asyncio.gather(first, *jobs, return_exceptions=True))[1:]
        await database.run(lambda c: limit(c, 1 << 20))
        await database.run(lambda c: insert(c, "room again"))
        return results, await database.run(names)

    results, found = asyncio.run(run())
    assert [type(result) for result in results] == [type(None), DiskFullError, type(None)]
    database.close()
    assert found == ["a", "b", "room again"]
