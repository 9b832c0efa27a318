"""An MLflow experiment with one run for each arm, and the conclusion as tags of the experiment."""

from __future__ import annotations

import posixpath
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hone.algorithms.config import Config
from hone.experiments.kinds.contract import Store

if TYPE_CHECKING:
    from hone.algorithms.run_directory import MetricSink

ARM = "hone.arm"
"""The tag by which the run of an arm is found again after an interruption."""
LONGEST_NAME, LONGEST_PARAM, LONGEST_TAG = 250, 500, 5000
"""Characters that MLflow takes."""
LARGEST_BATCH = 1000
"""Metrics that it takes at once."""


class MlflowParams(Config):
    tracking_uri: str | None = None
    """A tracking server, or a database such as `sqlite:///mlflow.db`; without it MLflow's own `MLFLOW_TRACKING_URI`."""
    experiment: str | None = None
    """Without it the experiment's name."""


class Mlflow(Store[MlflowParams]):
    Params = MlflowParams

    def open(self, experiment: str, arm: str, run_dir: Path, config: Mapping[str, Any]) -> MetricSink:
        client = self._client()
        identity = self._experiment(client, experiment)
        known = client.search_runs([identity], filter_string=f"tags.`{ARM}` = '{run_dir.resolve().name}'")
        tags = {ARM: run_dir.resolve().name, "mlflow.runName": arm}
        run = known[0] if known else client.create_run(identity, tags=tags)
        if known:
            client.update_run(run.info.run_id, status="RUNNING")
        else:
            for name, value in _flat(config):
                client.log_param(run.info.run_id, _name(name), str(value)[:LONGEST_PARAM])
        return MlflowRun(client, run.info.run_id)

    def conclude(self, experiment: str, conclusion: Mapping[str, Any]) -> None:
        client = self._client()
        identity = self._experiment(client, experiment)
        for name, value in _flat(conclusion):
            client.set_experiment_tag(identity, _name(f"conclusion.{name}"), str(value)[:LONGEST_TAG])

    def _client(self) -> Any:
        from hone.algorithms.sinks import library

        return library("mlflow").MlflowClient(tracking_uri=self.params.tracking_uri)

    def _experiment(self, client: Any, name: str) -> str:
        wanted = self.params.experiment or name
        found = client.get_experiment_by_name(wanted)
        return str(found.experiment_id if found else client.create_experiment(wanted))


class MlflowRun:
    """A metric sink."""

    def __init__(self, client: Any, run_id: str) -> None:
        from hone.algorithms.sinks import library

        self._client, self._run_id = client, run_id
        self._metric = library("mlflow.entities").Metric

    def log(self, step: int, metrics: Mapping[str, float | int | str]) -> None:
        now = int(time.time() * 1000)
        numbers = [
            self._metric(_name(name), float(value), now, step)
            for name, value in metrics.items()
            if not isinstance(value, str)
        ]
        # One transaction for all: one for each takes twenty times as long, half a second a step on a local database.
        for begin in range(0, len(numbers), LARGEST_BATCH):
            self._client.log_batch(self._run_id, metrics=numbers[begin : begin + LARGEST_BATCH])

    def close(self) -> None:
        self._client.set_terminated(self._run_id)


def _flat(values: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """Leaves by dotted path."""
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        path = f"{above}{name}"
        found += _flat(value, f"{path}.") if isinstance(value, Mapping) else [(path, value)]
    return found


def _name(wanted: str) -> str:
    """MLflow refuses most signs in names, and names that as paths would be others."""
    plain = re.sub(r"[^\w./: -]", "_", wanted)
    return posixpath.normpath(plain).lstrip("./")[:LONGEST_NAME] or "_"
