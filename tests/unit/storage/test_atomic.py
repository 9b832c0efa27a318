from pathlib import Path

import pytest

from hone.storage.atomic import remove_tree, tree_size, write_text


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old", mode=0o600)
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert path.stat().st_mode & 0o777 == 0o600


def test_remove_tree_takes_all_and_minds_no_absence(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text("x")
    remove_tree(tmp_path / "a")
    remove_tree(tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_tree_size(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("12345")
    assert tree_size(tmp_path) == 5
    assert tree_size(tmp_path / "absent") is None
