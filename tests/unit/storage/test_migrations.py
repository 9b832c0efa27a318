"""The revisions make the very tables that the code expects."""

from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from hone.storage import migrations
from hone.storage.tables import metadata


def test_revisions_and_tables_agree(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'fresh.sqlite'}")
    migrations.upgrade(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_head_is_the_newest_revision() -> None:
    versions = Path(migrations.__file__).parent / "versions"
    assert sorted(file.name.split("_")[0] for file in versions.glob("*.py"))[-1] == migrations.HEAD


def test_what_was_there_before_there_were_tenants_belongs_to_somebody(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'old.sqlite'}")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for name, project in (("a", "NULL"), ("b", "''"), ("c", "'mine'")):
            connection.exec_driver_sql(
                "INSERT INTO sessions (id, created_at, tags, sdk_version, project_id) "
                f"VALUES ('{name}', 1, '[]', '', {project})"
            )
    migrations.upgrade(engine)
    with engine.connect() as connection:
        owned = connection.exec_driver_sql("SELECT project_id FROM sessions ORDER BY id").scalars().all()
        made = connection.exec_driver_sql("SELECT id FROM projects ORDER BY id").scalars().all()
    assert (owned, made) == (["default", "default", "mine"], ["default", "mine"])
    engine.dispose()
