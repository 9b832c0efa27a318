"""Weights & Biases: one run for each arm. `WANDB_MODE=offline` keeps it on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hone.algorithms.config import Config
from hone.experiments.kinds.contract import Store

if TYPE_CHECKING:
    from hone.algorithms.run_directory import MetricSink


class WandbParams(Config):
    project: str | None = None
    """Without it the experiment's name."""


class Wandb(Store[WandbParams]):
    Params = WandbParams

    def open(self, experiment: str, arm: str, run_dir: Path, config: Mapping[str, Any]) -> MetricSink:
        from hone.algorithms import sinks

        return sinks.WeightsAndBiases(run_dir, self.params.project or experiment, config)
