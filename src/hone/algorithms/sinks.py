"""Other places for a run's metrics, each an optional install. `metrics.jsonl` is written whether or not they are used.

A run that is resumed repeats steps, to the same numbers: W&B ignores those below its newest, TensorBoard shows the
later ones, trackio keeps both.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hone.algorithms.run_directory import MetricSink
from hone.errors import UserError


class TensorBoard:
    """Event files in the run's directory: `tensorboard --logdir RUN`."""

    def __init__(self, run_dir: Path) -> None:
        library("tensorboard")
        self._writer = library("torch.utils.tensorboard").SummaryWriter(str(run_dir / "tensorboard"))

    def log(self, step: int, metrics: Mapping[str, float | int | str]) -> None:
        for name, value in metrics.items():
            if isinstance(value, str):
                self._writer.add_text(name, value, step)
            else:
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases, named after the run's directory; `WANDB_MODE=offline` keeps it on this machine."""

    def __init__(self, run_dir: Path, project: str, config: Mapping[str, Any]) -> None:
        wandb = library("wandb")
        self._run = wandb.init(
            project=project,
            name=run_dir.name,
            dir=str(run_dir),
            config=dict(config),
            id=_identity(run_dir),
            resume="allow",
            reinit="create_new",  # arms train side by side in one process, and the default hands all of them the first
        )

    def log(self, step: int, metrics: Mapping[str, float | int | str]) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


class Trackio:
    """A local trackio project; `trackio show` draws it."""

    def __init__(self, run_dir: Path, project: str, config: Mapping[str, Any]) -> None:
        trackio = library("trackio")
        self._run = trackio.init(project=project, name=_identity(run_dir), config=dict(config), resume="allow")

    def log(self, step: int, metrics: Mapping[str, float | int | str]) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


def open_sinks(names: str, run_dir: Path, project: str, config: Mapping[str, Any]) -> list[MetricSink]:
    """From a list such as `tensorboard,wandb`, as commands take it."""
    made: list[MetricSink] = []
    for name in filter(None, (name.strip() for name in names.split(","))):
        match name:
            case "tensorboard":
                made.append(TensorBoard(run_dir))
            case "wandb":
                made.append(WeightsAndBiases(run_dir, project, config))
            case "trackio":
                made.append(Trackio(run_dir, project, config))
            case _:
                raise UserError(f"metrics can go to tensorboard, wandb or trackio; {name!r} is none of them")
    return made


def _identity(run_dir: Path) -> str:
    """The same for a run that goes on, and another one's for a directory of the same name elsewhere."""
    path = run_dir.resolve()
    return f"{path.name}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def library(name: str) -> Any:
    """An optional module; its package has the name of the extra that installs it.

    Raises:
        UserError: it is not there, or it is and cannot be imported.
    """
    package = name.split(".")[0]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == package
        if missing:
            raise UserError(f"{package} is not installed: pip install 'hone[{package}]', or leave it out") from None
        raise UserError(
            f"{package} is installed but cannot be imported ({error}); "
            f"try pip install --upgrade 'hone[{package}]', or leave it out"
        ) from error
