import os
from pathlib import Path

import pytest

from hone.storage.atomic import copy_tree, remove_tree, tree_size, write_text


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


def test_a_copied_tree_is_whole_and_outlives_its_source(tmp_path: Path) -> None:
    source, target = tmp_path / "s", tmp_path / "deep" / "t"
    source.mkdir()
    (source / "a").write_text("content")
    (source / "b").write_text("more")
    assert copy_tree(source, target) == 11
    remove_tree(source)
    assert {file.name: file.read_text() for file in target.iterdir()} == {"a": "content", "b": "more"}
    with pytest.raises(FileNotFoundError):
        copy_tree(source, tmp_path / "none")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep"]


def test_a_tree_is_copied_where_the_file_system_has_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a").write_text("content")
    assert copy_tree(tmp_path / "s", tmp_path / "t") == 7
