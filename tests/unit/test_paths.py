import fcntl
from pathlib import Path

import pytest

from hone.errors import UserError
from hone.paths import DataDirectory, is_in_use


def test_the_directory_is_private_and_made_once(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path / "deep" / "data")
    data.make()
    data.make()
    assert data.root.stat().st_mode & 0o777 == 0o700
    assert data.resolve("snapshots/x").parent == data.snapshots


def test_a_file_in_its_place_is_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(UserError, match="cannot be used: File exists; choose another with --data-dir"):
        DataDirectory(tmp_path / "data").make()


def test_in_use_means_that_somebody_holds_the_lock(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    assert not is_in_use(data)
    with data.lock.open("w") as lock:
        assert not is_in_use(data)
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert is_in_use(data)
    assert not is_in_use(data)
