from pathlib import Path

import pytest

from hone.errors import UserError
from hone.identity.keys import digest, new_key, server_key


def test_a_key_is_made_once_and_kept_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "api_key"
    key = server_key(path, None)
    assert key.startswith("tml-")
    assert len(key) > 40
    assert path.stat().st_mode & 0o777 == 0o600
    assert server_key(path, None) == key
    assert list(tmp_path.iterdir()) == [path]


def test_a_given_key_wins_and_is_not_kept(tmp_path: Path) -> None:
    assert server_key(tmp_path / "api_key", "tml-mine") == "tml-mine"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["", "secret", "tml-", "tml-é", "tml-a b"])
def test_a_key_that_the_client_would_refuse_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(UserError, match="must be 'tml-' followed by"):
        server_key(tmp_path / "api_key", key)


def test_what_is_kept_of_a_key_is_not_the_key() -> None:
    key = new_key()
    assert key.startswith("tml-")
    assert key != new_key()
    assert digest(key) == digest(key)
    assert key not in digest(key)
