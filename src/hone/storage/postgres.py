"""What Postgres needs to behave as SQLite does: one writer at a time, one server, and no doubt about a commit."""

import time
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, text

from hone.errors import UserError

WRITER, SERVER = 0x686F6E65, 0x686F6E66
"""Advisory locks, each per schema: of the transaction under way, and of the one server."""
_TRANSACTION = "hone transaction"

WAIT_FOR_SERVER_SECONDS = 10.0
"""How long a new server waits for the session of one that was killed to end."""

_CLIENT = {"connect_timeout": 10, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
"""A server machine that vanished is noticed within half a minute, not within hours; below the same the other way."""
_SESSION = (
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("idle_in_transaction_session_timeout", "60000"),  # a suspended process must not keep the others waiting
)


def connectable(url: URL, sole: bool) -> Engine:
    """With `sole`, nobody else who asks for it can use the database until this engine or its process ends."""
    try:
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            isolation_level="READ COMMITTED",  # each statement sees what was committed before we had the turn
            pool_size=1,
            max_overflow=0,
            connect_args=_CLIENT,
        )
    except ModuleNotFoundError as error:
        raise UserError(f"HONE_DATABASE_URL names Postgres, which needs {error.name}: install hone[postgres]") from None

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        try:
            for name, value in _SESSION:
                connection.execute("SELECT set_config(%s, %s, false)", (name, value))
            if sole:
                _be_sole(connection)
            connection.commit()
        except BaseException:
            connection.close()
            raise

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        query = "SELECT pg_advisory_xact_lock(%s, hashtext(current_schema())), pg_current_xact_id()::text"
        connection.info[_TRANSACTION] = connection.exec_driver_sql(query, (WRITER,)).one()[1]

    return engine


def transaction_id(connection: Connection) -> str | None:
    """Names the transaction under way, for `took_effect`; None in other databases."""
    name: str | None = connection.info.get(_TRANSACTION)
    return name


def took_effect(connection: Connection, transaction: str | None) -> bool:
    """Whether a transaction whose connection was lost was committed. Waits for one that still goes on: it has the turn
    that ours needs."""
    if transaction is None:
        return False
    with connection.begin():
        query = text("SELECT pg_xact_status(CAST(:transaction AS xid8))")
        return bool(connection.execute(query, {"transaction": transaction}).scalar_one() == "committed")


def _be_sole(connection: Any) -> None:
    deadline = time.monotonic() + WAIT_FOR_SERVER_SECONDS
    query = "SELECT pg_try_advisory_lock(%s, hashtext(current_schema()))"
    while not connection.execute(query, (SERVER,)).fetchone()[0]:
        if time.monotonic() > deadline:
            raise UserError(
                "the database of HONE_DATABASE_URL is in use by another server; stop it or choose another database"
            )
        time.sleep(0.1)
