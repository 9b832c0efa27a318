"""What every test shares: no test reads or writes the user's own data, keys, settings or caches."""

import os
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

# At import, before any other test file is: some libraries read these variables once, when they are imported.
for name in list(os.environ):
    if name.startswith(("HONE_", "TINKER_", "AWS_")):
        del os.environ[name]
home = tempfile.TemporaryDirectory(prefix="hone-tests-", ignore_cleanup_errors=True)
os.environ["XDG_DATA_HOME"] = f"{home.name}/share"
os.environ["HF_HOME"] = f"{home.name}/huggingface"
os.environ["HF_HUB_OFFLINE"] = "1"  # a lookup on a hub would be a mistake, and a slow one
os.environ["TINKER_TELEMETRY"] = "0"
if "PYTHONPATH" in os.environ:  # programs that tests start in other directories find Hone too
    os.environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, os.environ["PYTHONPATH"].split(os.pathsep)))

from tests.support import databases  # noqa: E402

if TYPE_CHECKING:
    from tests.support.object_stores import S3


@pytest.fixture(scope="session")
def postgres() -> Iterator[databases.PostgresDatabases]:
    assert databases.POSTGRES is not None
    made = databases.PostgresDatabases(databases.POSTGRES)
    yield made
    made.drop()


@pytest.fixture(params=databases.KINDS)
def any_database(request: pytest.FixtureRequest) -> Iterator[databases.Databases]:
    """Has a test run on SQLite, and again on Postgres where there is one."""
    chosen = databases.Databases() if request.param == "sqlite" else request.getfixturevalue("postgres")
    with databases.using(chosen):
        yield chosen
    chosen.recycle()


@pytest.fixture(scope="session")
def s3() -> Iterator["S3"]:
    from tests.support.object_stores import s3_server

    with s3_server() as server:
        yield server


def pytest_report_header() -> str:
    return f"databases: {' and '.join(databases.KINDS)}{'' if databases.POSTGRES else f' ({databases.WITHOUT})'}"


def pytest_unconfigure(config: pytest.Config) -> None:
    home.cleanup()
