"""The revisions make the very tables that the code expects, and lose nothing that an older version had written."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Engine, MetaData, NullPool, Table, create_engine, types

from hone.storage import migrations
from hone.storage.tables import metadata
from tests.support.databases import Databases, PostgresDatabases

VERSIONS = Path(migrations.__file__).parent / "versions"
REVISIONS = sorted(file.name.split("_")[0] for file in VERSIONS.glob("*.py"))


@pytest.fixture
def empty(any_database: Databases, tmp_path: Path) -> Iterator[Engine]:
    """A database without tables."""
    if isinstance(any_database, PostgresDatabases):
        url = any_database.address(any_database.empty())
    else:
        url = any_database.url(tmp_path)
    engine = create_engine(url, poolclass=NullPool)
    yield engine
    engine.dispose()


def upgrade_to(engine: Engine, revision: str) -> None:
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def tables_of(engine: Engine) -> list[Table]:
    """As they are in the database, those before others that refer to them."""
    found = MetaData()
    found.reflect(engine)
    return [table for table in found.sorted_tables if table.name != "alembic_version"]


def a_row(table: Table) -> dict[str, Any]:
    return {column.name: a_value(column.type, f"{table.name}.{column.name}") for column in table.columns}


def a_value(kind: types.TypeEngine[Any], name: str) -> Any:
    """Other columns that a column refers to have the same value, so a row of each table is enough."""
    match kind:
        case types.JSON():
            return {"of": name}
        case types.LargeBinary():
            return name.encode()
        case types.Boolean():
            return True
        case types.Integer():
            return 7
        case types.Float():
            return 0.5
        case types.String():
            return "one"
    raise AssertionError(f"{name} has the type {kind!r}")


def test_revisions_and_tables_agree(empty: Engine) -> None:
    migrations.upgrade(empty)
    with empty.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_head_is_the_newest_revision() -> None:
    assert REVISIONS[-1] == migrations.HEAD


@pytest.mark.parametrize("revision", REVISIONS)
def test_what_any_older_version_wrote_is_there_after_an_upgrade(empty: Engine, revision: str) -> None:
    upgrade_to(empty, revision)
    older = tables_of(empty)
    with empty.begin() as connection:
        for table in older:
            connection.execute(table.insert(), a_row(table))
    migrations.upgrade(empty)
    with empty.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        for table in older:
            found = [dict(row) for row in connection.execute(table.select()).mappings()]
            assert a_row(table) in found, table.name
    migrations.upgrade(empty)  # once more changes nothing


def test_what_was_there_before_there_were_tenants_belongs_to_somebody(empty: Engine) -> None:
    upgrade_to(empty, "0001")
    with empty.begin() as connection:
        for name, project in (("a", "NULL"), ("b", "''"), ("c", "'mine'")):
            connection.exec_driver_sql(
                "INSERT INTO sessions (id, created_at, tags, sdk_version, project_id) "
                f"VALUES ('{name}', 1, '[]', '', {project})"
            )
    migrations.upgrade(empty)
    with empty.connect() as connection:
        owned = connection.exec_driver_sql("SELECT project_id FROM sessions ORDER BY id").scalars().all()
        made = connection.exec_driver_sql("SELECT id FROM projects ORDER BY id").scalars().all()
    assert (owned, made) == (["default", "default", "mine"], ["default", "mine"])
