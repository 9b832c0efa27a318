import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, NullPool, create_engine

from hone.errors import UserError
from hone.identity import accounts
from hone.storage.migrations import upgrade
from tests.support.databases import Databases


@pytest.fixture
def connection(tmp_path: Path, any_database: Databases) -> Iterator[Connection]:
    engine = create_engine(any_database.url(tmp_path), poolclass=NullPool)
    upgrade(engine)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def caller(connection: Connection, text: str) -> accounts.Caller:
    found = accounts.find_caller(connection, text)
    assert found is not None
    return found


def test_a_new_server_has_one_user_until_there_is_a_second_key(connection: Connection) -> None:
    accounts.set_server_key(connection, "tml-server")
    assert caller(connection, "tml-server").single_user
    accounts.create_key(connection, "second")
    assert not caller(connection, "tml-server").single_user
    accounts.set_server_key(connection, "tml-server")
    assert accounts.find_caller(connection, "tml-other") is None


def test_only_admins_reach_beyond_their_project_and_nobody_beyond_their_organization(connection: Connection) -> None:
    accounts.set_server_key(connection, "tml-server")
    accounts.create_project(connection, "a")
    accounts.create_project(connection, "b", "elsewhere")
    _, plain = accounts.create_key(connection, "plain", "a", "ann")
    _, other = accounts.create_key(connection, "other", "b", "bob", scopes=["admin"])
    assert caller(connection, plain).projects == {"a"}
    assert caller(connection, "tml-server").projects == {"default", "a"}
    assert caller(connection, other).projects == {"b"}
    with pytest.raises(UserError, match="user 'ann' belongs to organization 'local'"):
        accounts.create_key(connection, "mixed", "b", "ann")


def test_revoked_and_expired_keys_are_nobodys_and_numbers_are_not_used_again(connection: Connection) -> None:
    accounts.set_server_key(connection, "tml-server")
    key, text = accounts.create_key(connection, "short", expires_at=time.time() - 1)
    assert accounts.find_caller(connection, text) is None
    assert accounts.find_caller_by_id(connection, key.id) is None
    accounts.revoke_key(connection, key.id)
    assert accounts.revoke_key(connection, key.id).revoked_at is not None
    assert accounts.create_key(connection, "next")[0].id == key.id + 1
    with pytest.raises(UserError, match="key 1 is the server's own"):
        accounts.revoke_key(connection, 1)


def test_another_keys_text_cannot_become_the_servers(connection: Connection) -> None:
    accounts.set_server_key(connection, "tml-server")
    _, text = accounts.create_key(connection, "second")
    with pytest.raises(UserError, match="is key 2"):
        accounts.set_server_key(connection, text)
