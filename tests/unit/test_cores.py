import os
from pathlib import Path

import pytest

from hone import cores
from hone.cores import Threads, available_cores, engine_threads


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """16 cores, and no container."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    monkeypatch.setattr(cores, "_QUOTA", str(tmp_path / "cpu.max"))
    monkeypatch.setattr(cores, "_OLD_QUOTA", (str(tmp_path / "quota"), str(tmp_path / "period")))


def test_the_cores_are_those_that_this_process_may_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert available_cores() == 16
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5})
    assert available_cores() == 2


@pytest.mark.parametrize(
    ("quota", "wanted"), [("max 100000", 16), ("400000 100000", 4), ("250000 100000", 2), ("50000 100000", 1)]
)
def test_a_container_has_whole_cores_and_one_at_least(tmp_path: Path, quota: str, wanted: int) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert available_cores() == wanted


def test_older_containers_say_it_in_two_files(tmp_path: Path) -> None:
    (tmp_path / "quota").write_text("-1\n")
    (tmp_path / "period").write_text("100000\n")
    assert available_cores() == 16
    (tmp_path / "quota").write_text("300000\n")
    assert available_cores() == 3


@pytest.mark.parametrize("count", [1, 2, 4, 16])
def test_there_is_a_worker_on_every_core(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(count)))
    assert engine_threads() == Threads(math=1, workers=count)


def test_what_is_set_goes_first() -> None:
    assert engine_threads(math=4) == Threads(4, 4)
    assert engine_threads(math=32) == Threads(32, 1)
    assert engine_threads(workers=3) == Threads(1, 3)
