"""How every method begins, is written down, and stops: what must be the same in all of them."""

from __future__ import annotations

import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType

import tinker

from hone.algorithms.config import CheckpointConfig, ModelConfig, OptimizerConfig
from hone.algorithms.frozen_weights import FROZEN_WEIGHTS
from hone.algorithms.learning_rate import recommended_lr
from hone.algorithms.run_directory import CHECKPOINTS, FINAL, Checkpoint, RunDirectory
from hone.errors import UserError
from hone.storage.atomic import write_text

SEED = "adapter_seed"
"""In the run's directory: the seed of the adapter's first weights, if the configuration names none."""

NAME_ANOTHER = "name a training checkpoint that is there"


async def begin(service: tinker.ServiceClient, model: ModelConfig, run: RunDirectory) -> tinker.TrainingClient:
    """The adapter as the run left it, weights and optimizer; at its start, as the configuration says.

    Raises:
        UserError: the service does not have the checkpoint to begin with.
    """
    training: tinker.TrainingClient
    if run.newest is None:
        # What a beginning that was lost has frozen is of other first weights, unless a seed draws the same.
        (run.path / FROZEN_WEIGHTS).unlink(missing_ok=True)
    if run.newest is not None:
        earlier = f"remove the last line of {run.path / CHECKPOINTS} to go on from the checkpoint before, or use "
        with _explained(
            f"the run in {run.path} goes on from its checkpoint {run.newest.name!r}, {run.newest.state_path}",
            f"{earlier if len(run.checkpoints) > 1 else 'use '}another directory to begin again",
        ):
            training = await service.create_training_client_from_state_with_optimizer(run.newest.state_path)
    elif model.load_checkpoint is not None:
        with _explained(f"`model.load_checkpoint` is {model.load_checkpoint}", NAME_ANOTHER):
            training = await service.create_training_client_from_state_with_optimizer(model.load_checkpoint)
    elif model.init_from_checkpoint is not None:
        with _explained(f"`model.init_from_checkpoint` is {model.init_from_checkpoint}", NAME_ANOTHER):
            training = await service.create_training_client_from_state(model.init_from_checkpoint)
    else:
        training = await service.create_lora_training_client(
            model.name,
            rank=model.lora_rank,
            seed=model.seed if model.seed is not None else _noted_seed(run),
            train_attn=model.train_attn,
            train_mlp=model.train_mlp,
            train_unembed=model.train_unembed,
        )
    return training


@contextmanager
def _explained(asked: str, remedy: str) -> Iterator[None]:
    """What a service says of a checkpoint that it will not load, with what was asked and what to do."""
    try:
        yield
    except (tinker.BadRequestError, tinker.NotFoundError, tinker.PermissionDeniedError, tinker.RequestFailedError) as e:
        if isinstance(e, tinker.RequestFailedError) and e.category != "user":
            raise
        raise UserError(
            f"{asked}, and the service does not load it: {e}\nIt may have expired (`checkpoints.ttl_seconds`), been "
            f"deleted, or belong to another account; {remedy}"
        ) from e


def _noted_seed(run: RunDirectory) -> int:
    """Drawn once for a run: one that is lost before its first checkpoint begins with the same weights again."""
    file = run.path / SEED
    if not file.exists():
        write_text(file, f"{secrets.randbelow(2**31)}\n")
    return int(file.read_text(encoding="utf-8"))


async def save(
    training: tinker.TrainingClient,
    run: RunDirectory,
    config: CheckpointConfig,
    next_step: int,
    *,
    final: bool = False,
    keep: bool = False,
) -> Checkpoint:
    """Everything submitted so far, for training (with the optimizer) and for sampling; recorded once both are safe.

    `keep` is for a run that stops here: nobody knows when it goes on, so this checkpoint does not expire.
    """
    name = FINAL if final else f"{next_step:06d}"
    ttl_seconds = None if final or keep else config.ttl_seconds
    state = training.save_state(name, ttl_seconds=ttl_seconds)
    weights = training.save_weights_for_sampler(name, ttl_seconds=ttl_seconds)
    checkpoint = Checkpoint(name, next_step, (await state).path, (await weights).path, final)
    run.record(checkpoint)
    return checkpoint


def is_due(every: int, step: int) -> bool:
    """Whether something that happens every so many steps happens at `step`; 0 is never."""
    return every > 0 and step % every == 0


def highest_rate(optimizer: OptimizerConfig, model: str, hidden_size: int | None = None) -> float:
    """What the configuration says, else the advice for the model."""
    if optimizer.learning_rate is not None:
        return optimizer.learning_rate
    if hidden_size is None:
        raise UserError(f"give `optimizer.learning_rate`: nothing is known of the width of {model!r}")
    return recommended_lr(model, hidden_size)


class StopSignal:
    """Set by the first Ctrl-C: the step under way is finished and saved. The second one ends the program at once."""

    def __init__(self) -> None:
        self.requested = False

    def __bool__(self) -> bool:
        return self.requested


_given: ContextVar[StopSignal | None] = ContextVar("stop_signal", default=None)


@contextmanager
def stopped_by(stop: StopSignal) -> Iterator[None]:
    """Runs that begin within the block listen to `stop` in place of Ctrl-C: for programs that conduct several."""
    token = _given.set(stop)
    try:
        yield
    finally:
        _given.reset(token)


@contextmanager
def stop_on_interrupt() -> Iterator[StopSignal]:
    """Only the main thread hears signals; elsewhere the signal is never set."""
    given = _given.get()
    if given is not None:
        yield given
        return
    stop = StopSignal()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(signal_number: int, frame: FrameType | None) -> None:
        stop.requested = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, request)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
