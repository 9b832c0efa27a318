"""The revisions make the very tables that the code expects."""

from pathlib import Path

from alembic.autogenerate import compare_metadata
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
