"""How every method begins, is written down, and stops: what must be the same in all of them."""

from __future__ import annotations

import secrets
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Protocol

import tinker

from hone.algorithms.config import CheckpointConfig, ModelConfig, OptimizerConfig, TrainingConfig
from hone.algorithms.frozen_weights import FROZEN_WEIGHTS
from hone.algorithms.learning_rate import get_lr, recommended_lr
from hone.algorithms.run_directory import CHECKPOINTS, FINAL, Checkpoint, MetricSink, RunDirectory, open_run
from hone.errors import UserError
from hone.observe.progress import Advance, Display
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


class TrainingSession:
    """What the loops do alike: write down what was done, save when it is time, and stop when somebody asks for it."""

    def __init__(
        self, run: RunDirectory, checkpoints: CheckpointConfig, total_steps: int, stop: Stop, advance: Advance
    ) -> None:
        self.run = run
        self.steps = range(run.first_step, total_steps)
        """Those that are left."""
        self.stopped = False
        """Somebody asked for it, and everything until then is saved: the loop ends here."""
        self._checkpoints, self._total_steps, self._stop, self._advance = checkpoints, total_steps, stop, advance

    @property
    def finished(self) -> bool:
        return self.run.finished

    @property
    def last(self) -> Checkpoint:
        """The newest checkpoint, of a loop that came to its end."""
        assert self.run.newest is not None, "a loop saves before it ends"
        return self.run.newest

    def log(self, step: int, metrics: Mapping[str, float | int | str], shown: str) -> None:
        """What a step was like; `shown` stands beside the bar."""
        self.run.log(step, metrics)
        self._advance(shown)

    def saves_after(self, step: int) -> bool:
        """It is time for it, or somebody asked the loop to stop."""
        return bool(self._stop) or (is_due(self._checkpoints.every, step + 1) and step + 1 < self._total_steps)

    async def save_if_due(self, training: tinker.TrainingClient, step: int) -> None:
        if self.saves_after(step):
            await self.save(training, step)

    async def save(self, training: tinker.TrainingClient, step: int) -> None:
        """Everything up to and with `step`. A loop that stops here may go on at any time: that does not expire."""
        stopping = bool(self._stop)
        await self._save(training, f"{step + 1:06d}", step + 1, None if stopping else self._checkpoints.ttl_seconds)
        self.stopped = stopping

    async def finish(self, training: tinker.TrainingClient, measures: Mapping[str, float]) -> Checkpoint:
        """After the last step: its evaluation, and the checkpoint that is kept."""
        if measures:
            self.run.log(self._total_steps, measures)
        await self._save(training, FINAL, self._total_steps, None)
        return self.last

    async def _save(self, training: tinker.TrainingClient, name: str, next_step: int, ttl_seconds: int | None) -> None:
        """For training (with the optimizer) and for sampling; recorded once both are safe."""
        state = training.save_state(name, ttl_seconds=ttl_seconds)
        weights = training.save_weights_for_sampler(name, ttl_seconds=ttl_seconds)
        self.run.record(Checkpoint(name, next_step, (await state).path, (await weights).path, name == FINAL))


@contextmanager
def training_session(
    run_dir: Path, config: TrainingConfig, label: str, total_steps: int, sinks: Sequence[MetricSink], display: Display
) -> Iterator[TrainingSession]:
    """Opens the run's directory, shows a bar and listens for Ctrl-C, for as long as the loop takes."""
    with (
        open_run(run_dir, config, sinks) as run,
        stop_on_interrupt() as stop,
        display.bar(label, total_steps - run.first_step) as advance,
    ):
        yield TrainingSession(run, config.checkpoints, total_steps, stop, advance)


def is_due(every: int, step: int) -> bool:
    """Whether something that happens every so many steps happens at `step`; 0 is never."""
    return every > 0 and step % every == 0


def highest_rate(optimizer: OptimizerConfig, model: str, hidden_size: int | None = None) -> float:
    """What the configuration says, else the advice for the model."""
    if optimizer.learning_rate is not None:
        return optimizer.learning_rate
    return get_lr(model) if hidden_size is None else recommended_lr(model, hidden_size)


class Stop(Protocol):
    """True once somebody wants the run to end after the step under way."""

    def __bool__(self) -> bool: ...


class StopSignal:
    """Set by the first Ctrl-C: the step under way is finished and saved. The second one ends the program at once."""

    def __init__(self) -> None:
        self.requested = False

    def __bool__(self) -> bool:
        return self.requested


_given: ContextVar[Stop | None] = ContextVar("stop_signal", default=None)


@contextmanager
def stopped_by(stop: Stop) -> Iterator[None]:
    """Runs that begin within the block listen to `stop` in place of Ctrl-C: for programs that conduct several."""
    token = _given.set(stop)
    try:
        yield
    finally:
        _given.reset(token)


@contextmanager
def stop_on_interrupt() -> Iterator[Stop]:
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
