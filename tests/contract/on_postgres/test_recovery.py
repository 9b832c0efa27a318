import pytest

from tests.contract.test_recovery import test_a_killed_server_goes_unnoticed_once_it_is_back  # noqa: F401
from tests.support.databases import PostgresDatabases, needs_postgres

pytestmark = needs_postgres


@pytest.fixture(autouse=True)
def database_url(postgres: PostgresDatabases, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every server that the test starts."""
    monkeypatch.setenv("HONE_DATABASE_URL", postgres.lasting())
