"""Weights of earlier experiments: `EXPERIMENT/ARM`, or `EXPERIMENT` for its best arm, to a checkpoint."""

from __future__ import annotations

from pathlib import Path

from hone.errors import UserError
from hone.experiments.config import BackendSpec, RunConfig
from hone.experiments.records import ArmRecord, ExperimentRecord
from hone.experiments.runner.directory import ExperimentDirectory, identity, read_record
from hone.experiments.selection import choose

TINKER = "tinker://"


def with_paths(run: RunConfig, output_dir: Path, directory: ExperimentDirectory) -> RunConfig:
    """The run with `tinker://` paths where it names arms.

    Where those weights lie on a server of the other experiment's own, this one uses that server's data too: its
    directory `backend` becomes a link to the other's. One experiment at a time can use it.

    Raises:
        UserError: there is no such experiment or arm, or it has no weights.
    """
    changes = state_paths(run, output_dir)
    for name in changes:
        _share_backend(run.backend, output_dir / getattr(run.model, name).partition("/")[0], directory)
    return run.model_copy(update={"model": run.model.model_copy(update=changes)}) if changes else run


def state_paths(run: RunConfig, output_dir: Path) -> dict[str, str]:
    """By field of the run's model, where it names an arm: the arm's weights.

    Raises:
        UserError: there is no such experiment or arm, or it has no weights.
    """
    named = {name: getattr(run.model, name) for name in ("init_from_checkpoint", "load_checkpoint")}
    return {
        name: _state_path(arm, output_dir)
        for name, arm in named.items()
        if arm is not None and not arm.startswith(TINKER)
    }


def _state_path(named: str, output_dir: Path) -> str:
    experiment, _, wanted = named.partition("/")
    record = read_record(output_dir / experiment)
    arm = _arm(record, wanted) if wanted else _best(record)
    if arm.state_path is None:
        raise UserError(f"the arm {arm.name!r} of {experiment} has no weights: its training is {arm.training}")
    return arm.state_path


def _arm(record: ExperimentRecord, wanted: str) -> ArmRecord:
    for arm in record.arms:
        if arm.name == wanted:
            return arm
    raise UserError(f"{record.name} has no arm {wanted!r}; it has {', '.join(arm.name for arm in record.arms)}")


def _best(record: ExperimentRecord) -> ArmRecord:
    if record.metric is None:
        raise UserError(f"{record.name} has not chosen an arm; name one, as {record.name}/ARM")
    return _arm(record, choose(record.arms, record.metric, record.goal).arm)


def _share_backend(spec: BackendSpec, other: Path, directory: ExperimentDirectory) -> None:
    kept = other / "backend" / f"{spec.kind}-{identity(spec.kind, spec.params)}"
    if not kept.is_dir() or not any(kept.iterdir()):
        return  # the service keeps its weights itself
    own, wanted = directory.backends, (other / "backend").resolve()
    if own.resolve() == wanted:
        return
    if own.is_symlink() or own.exists():
        raise UserError(
            f"{directory.path} has weights of its own already, and those of {other} lie on another server; "
            "give the experiment another name"
        )
    own.parent.mkdir(parents=True, exist_ok=True)
    own.symlink_to(wanted)
