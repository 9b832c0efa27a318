"""The experiments under one directory, found quickly: an SQLite file that is made of their records.

It holds nothing of its own. What has changed on disk since is read again whenever it is opened, so it may be lost,
and experiments need not be told about it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from hone.errors import UserError
from hone.experiments.records import ExperimentRecord
from hone.experiments.runner.directory import RECORD, read_record

FILE = "index.sqlite"

SCHEMA = """
CREATE TABLE IF NOT EXISTS experiments (
    directory TEXT PRIMARY KEY, changed INTEGER NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, created TEXT NOT NULL,
    status TEXT NOT NULL, metric TEXT, goal TEXT NOT NULL, arms INTEGER NOT NULL, ended INTEGER NOT NULL,
    parent TEXT, verdict TEXT
);
CREATE TABLE IF NOT EXISTS arms (
    directory TEXT NOT NULL, name TEXT NOT NULL, grouped TEXT NOT NULL, config_hash TEXT NOT NULL,
    training TEXT NOT NULL, evaluation TEXT NOT NULL, kept_step INTEGER, value REAL, cost REAL NOT NULL,
    PRIMARY KEY (directory, name)
);
"""


@dataclass(frozen=True)
class IndexedExperiment:
    id: str
    name: str
    created: str
    status: str
    metric: str | None
    goal: str
    arms: int
    ended: int
    """Arms that have ended, however."""
    parent: str | None
    verdict: str | None
    directory: Path


class Index:
    def __init__(self, output_dir: Path) -> None:
        self._output_dir = output_dir

    def list(self) -> list[IndexedExperiment]:
        """All experiments, newest first."""
        with self._opened() as connection:
            rows = connection.execute(
                "SELECT id, name, created, status, metric, goal, arms, ended, parent, verdict, directory "
                "FROM experiments ORDER BY created DESC, name"
            ).fetchall()
        return [
            IndexedExperiment(
                id=row[0],
                name=row[1],
                created=row[2],
                status=row[3],
                metric=row[4],
                goal=row[5],
                arms=row[6],
                ended=row[7],
                parent=row[8],
                verdict=row[9],
                directory=self._output_dir / row[10],
            )
            for row in rows
        ]

    def find(self, name: str) -> IndexedExperiment:
        """By name, id, or the beginning of one that is unique.

        Raises:
            UserError: there is none, or several.
        """
        known = self.list()
        exact = [one for one in known if name in (one.name, one.id)]
        found = exact or [one for one in known if one.id.startswith(name)]
        if len(found) == 1:
            return found[0]
        what = "several experiments begin" if found else "no experiment begins"
        names = ", ".join(sorted(one.name for one in found or known)) or "none"
        raise UserError(f"{what} with {name!r} in {self._output_dir}; there are: {names}")

    def records(self) -> Iterator[ExperimentRecord]:
        """Whole, newest first."""
        for one in self.list():
            yield read_record(one.directory)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """With what has changed on disk read again."""
        if not self._output_dir.is_dir():
            raise UserError(f"there are no experiments: {self._output_dir} is no directory")
        file = self._output_dir / FILE
        try:
            with closing(_connected(file)) as connection:
                self._refresh(connection)
                yield connection
        except sqlite3.DatabaseError:
            file.unlink(missing_ok=True)  # it is made anew of the records
            with closing(_connected(file)) as connection:
                self._refresh(connection)
                yield connection

    def _refresh(self, connection: sqlite3.Connection) -> None:
        found = {file.parent.name: file.stat().st_mtime_ns for file in self._output_dir.glob(f"*/{RECORD}")}
        known = dict(connection.execute("SELECT directory, changed FROM experiments").fetchall())
        for directory in known.keys() - found.keys():
            _forget(connection, directory)
        for directory, changed in found.items():
            if known.get(directory) != changed:
                try:
                    record = read_record(self._output_dir / directory)
                except UserError:
                    continue  # not ours, or of another version
                _forget(connection, directory)
                _add(connection, directory, changed, record)
        connection.commit()


def _connected(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=30)
    connection.executescript(SCHEMA)
    return connection


def _forget(connection: sqlite3.Connection, directory: str) -> None:
    connection.execute("DELETE FROM experiments WHERE directory = ?", (directory,))
    connection.execute("DELETE FROM arms WHERE directory = ?", (directory,))


def _add(connection: sqlite3.Connection, directory: str, changed: int, record: ExperimentRecord) -> None:
    ended = sum(arm.training in ("done", "stopped", "failed", "skipped") for arm in record.arms)
    verdict = (record.conclusion or {}).get("verdict")
    connection.execute(
        "INSERT INTO experiments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            directory,
            changed,
            record.id,
            record.name,
            record.created,
            record.status,
            record.metric,
            record.goal,
            len(record.arms),
            ended,
            record.config.get("parent_experiment"),
            verdict if isinstance(verdict, str) else None,
        ),
    )
    for arm in record.arms:
        value = arm.kept.metrics.get(record.metric or "") if arm.kept else None
        connection.execute(
            "INSERT INTO arms VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                directory,
                arm.name,
                arm.group,
                arm.config_hash,
                arm.training,
                arm.evaluation,
                arm.kept_step,
                value,
                arm.usage.cost,
            ),
        )
