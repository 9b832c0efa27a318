"""The files of one training run, and how it goes on after an interruption.

    config.json         what was asked, resolved: enough to run it again
    metrics.jsonl       one line per step
    checkpoints.jsonl   one line per save: its name, the next step (`batch`), and the `tinker://` paths

The names and keys are those that users of `tinker-cookbook` know.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hone.algorithms.config import Config
from hone.errors import UserError
from hone.storage import jsonl
from hone.storage.atomic import write_text

CONFIG, METRICS, CHECKPOINTS = "config.json", "metrics.jsonl", "checkpoints.jsonl"
FINAL = "final"


class MetricSink(Protocol):
    """Somewhere else that wants the metrics."""

    def log(self, step: int, metrics: Mapping[str, float | int | str]) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Checkpoint:
    """A state that training can go on from."""

    name: str
    batch: int
    """The first step that is not in it."""
    state_path: str
    sampler_path: str | None
    final: bool = False

    def as_json(self) -> dict[str, Any]:
        known = {"name": self.name, "batch": self.batch, "state_path": self.state_path}
        return known | ({"sampler_path": self.sampler_path} if self.sampler_path else {}) | {"final": self.final}


class RunDirectory:
    """Opened on an empty directory it begins a run; on one with the same configuration it goes on with it."""

    def __init__(self, path: Path, config: Config, sinks: Sequence[MetricSink] = ()) -> None:
        self.path = path
        self._sinks = sinks
        self._started = time.monotonic()
        path.mkdir(parents=True, exist_ok=True)
        wanted = config.model_dump(mode="json")
        config_file = path / CONFIG
        if config_file.exists():
            found = json.loads(config_file.read_text(encoding="utf-8"))
            if found != wanted:
                differing = ", ".join(_differing(found, wanted))
                raise UserError(
                    f"{path} holds a run with another configuration (differing: {differing}); "
                    "give a new directory, or delete this one"
                )
        else:
            write_text(config_file, json.dumps(wanted, indent=2) + "\n")
        for file in (path / METRICS, path / CHECKPOINTS):
            jsonl.drop_cut_line(file)
        self.checkpoints = read_checkpoints(path)
        if not self.finished:
            self._keep_metrics_before(self.first_step)

    @property
    def newest(self) -> Checkpoint | None:
        return self.checkpoints[-1] if self.checkpoints else None

    @property
    def first_step(self) -> int:
        """Where training begins or goes on."""
        return self.newest.batch if self.newest else 0

    @property
    def finished(self) -> bool:
        return self.newest is not None and self.newest.final

    def metrics(self) -> list[dict[str, Any]]:
        return read_metrics(self.path)

    def log(self, step: int, metrics: Mapping[str, float | int | str]) -> None:
        row = {"step": step, **{key: _plain(value) for key, value in metrics.items()}}
        jsonl.append(self.path / METRICS, row)
        for sink in self._sinks:
            sink.log(step, metrics)

    def record(self, checkpoint: Checkpoint) -> None:
        jsonl.append(self.path / CHECKPOINTS, checkpoint.as_json())
        self.checkpoints.append(checkpoint)

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()

    def _keep_metrics_before(self, step: int) -> None:
        """Steps after the newest checkpoint are done again, with the same numbers: each step keeps one line."""
        rows = self.metrics()
        kept = [row for row in rows if row["step"] < step]
        if len(kept) != len(rows):
            jsonl.write(self.path / METRICS, kept)


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The steps of a run, in their order."""
    return _rows(run_dir / METRICS)


def read_checkpoints(run_dir: Path) -> list[Checkpoint]:
    """What a run saved, in order of steps."""
    return [
        Checkpoint(row["name"], row["batch"], row["state_path"], row.get("sampler_path"), row.get("final", False))
        for row in _rows(run_dir / CHECKPOINTS)
        if "state_path" in row and "batch" in row
    ]


@contextmanager
def open_run(path: Path, config: Config, sinks: Sequence[MetricSink] = ()) -> Iterator[RunDirectory]:
    run = RunDirectory(path, config, sinks)
    try:
        yield run
    finally:
        run.close()


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        return jsonl.read(path)
    except jsonl.LineError as error:
        raise UserError(f"{error}; mend the line or delete the run") from None


def _plain(value: Any) -> Any:
    """JSON has no nan: a measure that does not exist is null."""
    if isinstance(value, (bool, int, str)):
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def _differing(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
