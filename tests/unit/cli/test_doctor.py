import dataclasses
import json
from pathlib import Path

import pytest

from hone import cores
from hone.cli import doctor
from hone.cli.main import main
from hone.engine.native import decoder, library
from hone.settings import Settings
from tests.support.sums import adds_in_chains


@pytest.fixture
def setup(tmp_path: Path) -> doctor.Setup:
    return doctor.Setup(Settings(), tmp_path / "data", tmp_path / "model")


def test_a_failed_check_says_what_to_do_and_hides_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unwell(setup: doctor.Setup) -> str:
        raise doctor.Unwell("it is broken", "Mend it.")

    def crashes(setup: doctor.Setup) -> str:
        raise ValueError("a bug")

    checks = {"broken": unwell, "crashing": crashes, "fine": lambda setup: "as it should be"}
    monkeypatch.setattr(doctor, "CHECKS", checks)
    assert main(["doctor", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert [check["ok"] for check in report["checks"]] == [False, False, True]
    assert report["checks"][0]["advice"] == "Mend it."
    assert "a bug" in report["checks"][1]["found"]
    assert main(["doctor"]) == 1
    assert "2 of 3 checks failed" in capsys.readouterr().out


def test_threads_are_those_that_the_engine_will_have(setup: doctor.Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (doctor, cores):
        monkeypatch.setattr(module, "available_cores", lambda: 4)
    assert "may be used: 4, engine threads: 4, each" in doctor.check_torch(setup)
    divided = dataclasses.replace(setup, settings=Settings(threads=2))
    found = doctor.check_torch(divided)
    assert "engine threads: 2, each" in found
    assert found.endswith("of 2")


def test_disk_looks_at_the_place_where_the_data_will_be(setup: doctor.Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "GiB free" in doctor.check_disk(setup)
    assert not setup.data_dir.exists(), "a check leaves nothing behind"
    monkeypatch.setattr(doctor, "LEAST_DISK_GIB", 1e9)
    with pytest.raises(doctor.Unwell):
        doctor.check_disk(setup)


def test_memory_is_divided_and_too_much_or_too_little_is_named(setup: doctor.Setup, tmp_path: Path) -> None:
    assert "GiB for Hone: passes" in doctor.check_memory(setup)
    for wrong, said in ((1 << 20, "HONE_MEMORY_BYTES is 1 MiB"), (1 << 60, "GiB for Hone")):
        with pytest.raises(doctor.Unwell, match=said) as fault:
            doctor.check_memory(doctor.Setup(Settings(memory_bytes=wrong), tmp_path, tmp_path))
        assert "HONE_MEMORY_BYTES" in fault.value.advice


def test_database_is_opened_written_and_read(setup: doctor.Setup) -> None:
    assert "sqlite" in doctor.check_database(setup)


def test_a_database_that_cannot_be_opened_is_explained(tmp_path: Path) -> None:
    settings = Settings(database_url=f"sqlite:///{tmp_path}/no/such/folder/hone.sqlite")
    with pytest.raises(doctor.Unwell) as fault:
        doctor.check_database(doctor.Setup(settings, tmp_path, tmp_path))
    assert "HONE_DATABASE_URL" in fault.value.advice


def test_the_object_store_is_written_read_and_left_as_it_was(setup: doctor.Setup, tmp_path: Path) -> None:
    assert doctor.check_blobs(setup) == "the data directory"
    store = tmp_path / "store"
    settings = Settings(blobs_url=f"file://{store}")
    assert "writes, reads and removes" in doctor.check_blobs(doctor.Setup(settings, tmp_path, tmp_path))
    assert [file for file in store.rglob("*") if file.is_file()] == []
    wrong = Settings(blobs_url="s3://bucket?endpoint_url=http://127.0.0.1:1&access_key_id=a&secret_access_key=b")
    with pytest.raises(doctor.Unwell, match="cannot be used") as fault:
        doctor.check_blobs(doctor.Setup(wrong, tmp_path, tmp_path))
    assert "HONE_BLOBS_URL" in fault.value.advice
    assert "secret" not in str(fault.value)


def test_a_missing_model_is_explained(setup: doctor.Setup) -> None:
    with pytest.raises(doctor.Unwell, match="is missing"):
        doctor.check_tokenizer(setup)


def test_everything_works_here_and_one_step_trains(capfd: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--json"])
    report = json.loads(capfd.readouterr().out)
    assert code == 0, report["checks"][-1]
    assert [check["check"] for check in report["checks"]] == list(doctor.CHECKS)
    assert "->" in report["checks"][-1]["found"]


def test_it_says_whether_the_c_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    setup = doctor.Setup(Settings(), tmp_path, Path(doctor.__file__).parent.parent / "assets" / "tiny")
    assert ("in C" in doctor.check_compiled(setup)) == adds_in_chains()
    for module in (library, decoder):
        monkeypatch.setattr(module, "library", lambda: None)
    assert "was not compiled here" in doctor.check_compiled(setup)
