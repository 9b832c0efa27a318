"""A local trackio project with one run for each arm: `trackio show` draws it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hone.algorithms.config import Config
from hone.experiments.kinds.contract import Store

if TYPE_CHECKING:
    from hone.algorithms.run_directory import MetricSink


class TrackioParams(Config):
    project: str | None = None
    """Without it the experiment's name."""


class Trackio(Store[TrackioParams]):
    Params = TrackioParams

    def open(self, experiment: str, arm: str, run_dir: Path, config: Mapping[str, Any]) -> MetricSink:
        from hone.algorithms import sinks

        return sinks.Trackio(run_dir, self.params.project or experiment, config)
