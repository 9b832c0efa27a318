"""The database's history, one Alembic revision per change. `upgrade` brings any older database to the newest."""

from pathlib import Path

from sqlalchemy import Engine, inspect, text

HEAD = "0005"
"""The newest revision; a test holds it to the files in `versions`."""


def upgrade(engine: Engine) -> None:
    with engine.begin() as connection:
        tables = inspect(connection).get_table_names()
        if "alembic_version" in tables:
            found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            if found == HEAD:
                return  # before Alembic is even imported: most starts end here
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
