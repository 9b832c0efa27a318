"""Databases to test on: an SQLite file for each data directory, or a Postgres database for each.

Postgres is a server that TEST_POSTGRES_URL names, where the tests make and drop databases of their own;
`.ci/with_postgres` starts one. Without it the tests on Postgres are skipped.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, NullPool, Table, create_engine, make_url

from hone.storage.database import Database
from hone.storage.tables import metadata, organizations, projects, users

POSTGRES = os.environ.get("TEST_POSTGRES_URL")
WITHOUT = "no Postgres: TEST_POSTGRES_URL is not set; .ci/with_postgres COMMAND starts one and sets it"
needs_postgres = pytest.mark.skipif(POSTGRES is None, reason=WITHOUT)
KINDS = ["sqlite"] if POSTGRES is None else ["sqlite", "postgres"]


class Databases:
    """One kind of database; the same directory always has the same one."""

    kind = "sqlite"

    def url(self, root: Path) -> str:
        root.mkdir(parents=True, exist_ok=True)
        return f"sqlite:///{root / 'hone.sqlite'}"

    def recycle(self) -> None:
        """After each test."""


class PostgresDatabases(Databases):
    kind = "postgres"

    def __init__(self, url: str) -> None:
        self._server = make_url(url).set(drivername="postgresql+psycopg")
        self._prefix = f"test_{secrets.token_hex(4)}"
        self._count = 0
        self._in_use: dict[Path, str] = {}
        self._free: list[str] = []
        self._template = self.empty()
        Database(self.address(self._template)).close()  # with all tables, so that copies of it need no migration

    def url(self, root: Path) -> str:
        if root not in self._in_use:
            self._in_use[root] = self._free.pop() if self._free else self._new(f" TEMPLATE {self._template}")
        return self.address(self._in_use[root])

    def lasting(self) -> str:
        """The address of one that no other test will use."""
        return self.address(self._new(f" TEMPLATE {self._template}"))

    def empty(self) -> str:
        """The name of one without tables."""
        return self._new("")

    def address(self, name: str) -> str:
        return self._server.set(database=name).render_as_string(hide_password=False)

    def recycle(self) -> None:
        """Make the databases of a test new again, which is much quicker than new ones."""
        for name in self._in_use.values():
            with self._connected(name) as connection:
                others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                connection.exec_driver_sql(f"{others} AND datname = current_database()")
                for table in reversed(metadata.sorted_tables):
                    connection.execute(table.delete())
                for table in (organizations, projects, users):  # what the migrations put there
                    connection.execute(table.insert(), self._first_rows(table))
        self._free += self._in_use.values()
        self._in_use.clear()

    def drop(self) -> None:
        with self._connected("postgres") as connection:
            for number in range(self._count):
                connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {self._prefix}_{number} WITH (FORCE)")

    def _first_rows(self, table: Table) -> list[dict[str, Any]]:
        with self._connected(self._template) as connection:
            return [dict(row) for row in connection.execute(table.select()).mappings()]

    def _new(self, origin: str) -> str:
        name = f"{self._prefix}_{self._count}"
        self._count += 1
        with self._connected("postgres") as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}{origin}")
        return name

    @contextmanager
    def _connected(self, name: str) -> Iterator[Connection]:
        engine = create_engine(self.address(name), isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            yield connection


current = Databases()
"""What `make_service` and `LiveServer` use."""


@contextmanager
def using(chosen: Databases) -> Iterator[Databases]:
    global current
    before, current = current, chosen
    try:
        yield chosen
    finally:
        current = before
