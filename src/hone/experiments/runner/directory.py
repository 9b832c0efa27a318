"""The files of an experiment.

    experiment.yaml   as it was given
    config.json       as it was understood: every value, and the hash of all of them
    data.json         fingerprints of the rows
    code.json         versions of what computed it
    events.jsonl      what happened, in order; decisions that a resumed run repeats
    ledger.jsonl      every opening of a sealed test set
    benchmarks.jsonl  what was measured on them
    spent.json        time that counts towards the budget
    record.json       the result so far, and at last: what reports and comparisons read
    conclusion.json   the verdict; conclusion.md says it in prose
    report.html       the page
    backend/          what a server of the experiment's own keeps
    lock              held by the process that runs it
    arms/<arm>-<hash>/
        config.json       the arm's own configuration
        run/              the algorithm's files: metrics.jsonl, checkpoints.jsonl, ...
        validation.jsonl  measurements, one line each
        samples.jsonl     some answers of each measurement
        before_after.json answers of the chosen arm, and of the model before training
        usage.json        what it took so far
        status.json       written last, and at once: an arm that has it has ended

The hash is of the arm's configuration and of its data, so changed ones never go on with old files.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hone.errors import UserError
from hone.experiments.records import ArmRecord, ExperimentRecord, Usage
from hone.experiments.runner.journal import Journal, Lines
from hone.storage.atomic import write_text

RECORD = "record.json"


class ExperimentDirectory:
    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def locked(self) -> Iterator[Journal]:
        """The directory for this process alone, and its journal.

        Raises:
            UserError: another process runs this experiment.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("a+", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise UserError(
                    f"{self.path} is in use by another run of the experiment (pid {lock.read().strip() or 'unknown'}); "
                    "wait for its end, or stop it"
                ) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield Journal(self.path / "events.jsonl")

    def arm(self, name: str, identity: str, *, alone: bool = True) -> ArmDirectory:
        """Of an arm with this identity: where it was trained under another name, that directory, if the experiment
        has one such arm `alone`."""
        arms = self.path / "arms"
        own = arms / f"{re.sub(r'[^A-Za-z0-9._=+-]', '_', name)}-{identity}"
        if alone and not own.exists():
            return ArmDirectory(next(iter(sorted(arms.glob(f"*-{identity}"))), own))
        return ArmDirectory(own)

    @property
    def backends(self) -> Path:
        return self.path / "backend"

    @property
    def ledger(self) -> Path:
        return self.path / "ledger.jsonl"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def config(self) -> dict[str, Any] | None:
        """What `write_config` wrote."""
        found: dict[str, Any] | None = _json(self.path / "config.json")
        return found

    def write_config(self, config_hash: str, resolved: Mapping[str, Any], given: str) -> None:
        write_text(self.path / "experiment.yaml", given)
        write_json(self.path / "config.json", {"config_hash": config_hash, "config": resolved})

    def write_record(self, record: ExperimentRecord) -> None:
        write_json(self.path / RECORD, record.model_dump(mode="json"))

    def record(self) -> ExperimentRecord | None:
        return read_record(self.path) if (self.path / RECORD).exists() else None


@dataclass(frozen=True)
class ArmDirectory:
    path: Path

    @property
    def run(self) -> Path:
        return self.path / "run"

    def begin(self, config: Mapping[str, Any]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        if not (self.path / "config.json").exists():
            write_json(self.path / "config.json", config)

    def validation(self) -> Lines:
        return Lines(self.path / "validation.jsonl")

    def samples(self) -> Lines:
        return Lines(self.path / "samples.jsonl")

    def status(self) -> ArmRecord | None:
        """What the arm ended with; None while it has not ended."""
        found = _json(self.path / "status.json")
        return None if found is None else ArmRecord.model_validate(found)

    def write_status(self, record: ArmRecord) -> None:
        write_json(self.path / "status.json", record.model_dump(mode="json"))

    def usage(self) -> Usage:
        return Usage.model_validate(_json(self.path / "usage.json") or {})

    def write_usage(self, usage: Usage) -> None:
        write_json(self.path / "usage.json", usage.model_dump(mode="json"))


def is_running(path: Path) -> bool:
    """Whether a process runs the experiment of this directory now."""
    try:
        with (path / "lock").open(encoding="utf-8") as lock:
            # Shared, and let go at once: it takes the directory from nobody.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def read_record(path: Path) -> ExperimentRecord:
    """Of an experiment's directory, or of its `record.json`.

    Raises:
        UserError: there is none, or it is not one.
    """
    file = path / RECORD if path.is_dir() else path
    found = _json(file)
    if found is None:
        raise UserError(f"there is no experiment in {path}: it has no {RECORD}")
    try:
        return ExperimentRecord.model_validate(found)
    except ValidationError as error:
        raise UserError(f"{file} is no record of an experiment: {error}") from None


def identity(*parts: Any) -> str:
    """Eight hexadecimal digits of anything that JSON can hold."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON ({error.msg}); restore or delete it") from None
