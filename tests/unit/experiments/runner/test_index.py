"""Experiments under one directory."""

import os
from pathlib import Path

import pytest

from hone.errors import UserError
from hone.experiments.records import ArmRecord, ExperimentRecord
from hone.experiments.runner.directory import ExperimentDirectory
from hone.experiments.runner.index import FILE, Index


def write(output_dir: Path, name: str, status: str = "done", created: str = "2026-01-01", **more: object) -> None:
    arms = [
        ArmRecord(name=f"{name}-{n}", group=name, seed=n, config_hash="0", training="done" if n else "running")
        for n in range(3)
    ]
    values = {"id": f"{name}-12345678", "name": name, "created": created, "status": status, "arms": arms}
    values |= {"config": {"parent_experiment": "old"}, "config_hash": "0"} | more
    (output_dir / name).mkdir(parents=True, exist_ok=True)
    ExperimentDirectory(output_dir / name).write_record(ExperimentRecord.model_validate(values))


def test_it_is_made_of_records_and_made_again_when_it_is_lost_or_broken(tmp_path: Path) -> None:
    write(tmp_path, "one", conclusion={"verdict": "supported"})
    write(tmp_path, "two", created="2026-01-02")
    (tmp_path / "other").mkdir()
    expected = Index(tmp_path).list()
    assert [(one.name, one.arms, one.ended, one.verdict, one.parent) for one in expected] == [
        ("two", 3, 2, None, "old"),
        ("one", 3, 2, "supported", "old"),
    ]
    assert expected[0].directory == tmp_path / "two"
    (tmp_path / FILE).unlink()
    assert Index(tmp_path).list() == expected
    (tmp_path / FILE).write_bytes(b"this is no database, and long enough to be seen as none" * 10)
    assert Index(tmp_path).list() == expected


def test_what_changes_on_disk_changes_in_it(tmp_path: Path) -> None:
    write(tmp_path, "one", status="running")
    index = Index(tmp_path)
    assert [one.status for one in index.list()] == ["running"]
    write(tmp_path, "one", status="done")
    os.utime(tmp_path / "one" / "record.json", ns=(1, 1))  # whatever the clock says
    assert [one.status for one in index.list()] == ["done"]
    (tmp_path / "one" / "record.json").unlink()
    assert index.list() == []


def test_one_is_found_by_name_id_or_the_beginning_of_it(tmp_path: Path) -> None:
    for name in ("sweep", "sweep-2", "other"):
        write(tmp_path, name)
    index = Index(tmp_path)
    assert index.find("sweep").name == "sweep"
    assert index.find("sweep-2-12345678").name == "sweep-2"
    assert index.find("oth").name == "other"
    with pytest.raises(UserError, match="several experiments begin with 'swee'"):
        index.find("swee")
    with pytest.raises(UserError, match="there are: other, sweep, sweep-2"):
        index.find("none")
    assert {record.name for record in index.records()} == {"sweep", "sweep-2", "other"}


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no directory"):
        Index(tmp_path / "runs").list()
