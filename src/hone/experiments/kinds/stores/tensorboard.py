"""Event files beside each arm's metrics: `tensorboard --logdir RUNS`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hone.experiments.kinds.contract import NoParams, Store

if TYPE_CHECKING:
    from hone.algorithms.run_directory import MetricSink


class TensorBoard(Store[NoParams]):
    def open(self, experiment: str, arm: str, run_dir: Path, config: Mapping[str, Any]) -> MetricSink:
        from hone.algorithms import sinks

        return sinks.TensorBoard(run_dir)
