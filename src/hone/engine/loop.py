"""The engine's one thread: takes operations in, lets the scheduler choose, computes, gives results out.

Training and sampling share the thread by time: after a micro-batch the sampler runs for as long as the micro-batch
took.
"""

import logging
import queue
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from hone.engine import contract as c
from hone.engine.batch import Piece, cut
from hone.engine.checkpoints import AdapterImage, capture, read_adapter, write_image
from hone.engine.disk import DiskLane
from hone.engine.exports import parse_recipients, write_export
from hone.engine.lora.state import AdapterState, new_adapter
from hone.engine.losses.custom.evaluate import check_custom_datum
from hone.engine.losses.custom.graph import rebuild
from hone.engine.models.load import LoadedModel
from hone.engine.optim.adamw import adamw_step
from hone.engine.parity import Probe, take_probe
from hone.engine.sampling.sampler import Sampler
from hone.engine.sampling.version import AdapterVersion
from hone.engine.scheduler import Job, Scheduler
from hone.engine.trainer import PieceResult, run_pieces
from hone.engine.wire import CANCEL, CLOSE
from hone.errors import HoneError, ServerError, UserError
from hone.protocol.lora import check_lora
from hone.protocol.losses import LOSSES, check_datum
from hone.protocol.types import ForwardBackwardResult

logger = logging.getLogger(__name__)

Reply = Callable[[int, Any], None]
"""Called with a ticket and a result or an exception, from the loop's thread or the disk lane's."""


@dataclass(frozen=True)
class Limits:
    """Sizes that trade speed against waiting and memory."""

    micro_batch_tokens: int = 2048
    """Of one training pass. Larger feeds the device better and makes other tenants wait longer."""
    sample_rows: int = 64
    """Sequences generated at once on one base model."""
    prefill_tokens: int = 2048
    """Prompt tokens that join the running batch in one step."""
    cache_bytes: int = 1 << 30
    """Key-value cache of one base model; memory is only used as it fills."""
    cache_tokens: int = 1 << 17
    """The same in tokens, whichever is less: small models would otherwise reserve far more than anybody samples."""
    checked_parameters: int = 2_000_000_000
    """Exports of larger base models are not compared with transformers, which loads the model once more."""


@dataclass(eq=False)
class _Adapter:
    model: str
    state: AdapterState
    share: c.Share


@dataclass(eq=False)
class _Pass:
    """A forward or backward pass under way: its pieces' results so far."""

    results: list[tuple[Piece, PieceResult]]
    gradient_before: Tensor | None
    """What to put back if a piece fails, so that a failed operation leaves no trace."""
    arrived: float
    started: float = 0.0
    cycle: int = 0
    """The number of the last micro-batch that it was in."""
    device_seconds: float = 0.0
    """Of its micro-batches, by its share of their tokens."""
    fills: list[float] = field(default_factory=list)
    """How full they were."""

    def took_part(self, cycle: int, started: float, seconds: float, share: float, fill: float) -> None:
        self.started, self.cycle = self.started or started, cycle
        self.device_seconds += seconds * share
        self.fills.append(fill)

    def metrics(self) -> dict[str, float]:
        """As clients see them; how each is put together from the parts of a chunked pass stands behind the colon."""
        return {
            "engine/cycle:max": float(self.cycle),
            "engine/queue_seconds:max": self.started - self.arrived,
            "engine/batch_fill:mean": sum(self.fills) / len(self.fills),
            "engine/device_seconds:sum": self.device_seconds,
        }


class EngineLoop:
    def __init__(self, models: dict[str, LoadedModel], limits: Limits, reply: Reply) -> None:
        self._models, self._limits, self._reply = models, limits, reply
        self._inbox: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._scheduler = Scheduler(limits.micro_batch_tokens)
        self._adapters: dict[str, _Adapter] = {}
        self._versions: dict[str, AdapterVersion] = {}
        self._samplers: dict[str, Sampler] = {}
        self._passes: dict[int, _Pass] = {}
        self._disk, self._exports = DiskLane(), DiskLane()
        self._owed: dict[str, tuple[str, Callable[[], int]]] = {}
        """By version, the adapters whose publication could not be written, and what tries again."""
        self._cycle = 0
        """Micro-batches so far."""
        self.compute_seconds = 0.0

    def put(self, ticket: int, message: Any) -> None:
        """Hand over an operation, `CANCEL` or `CLOSE`; may be called from any thread."""
        self._inbox.put((ticket, message))

    def run(self) -> None:
        """Work until `CLOSE` arrives; returns when the disk lane is empty."""
        while self._take_in():
            started = time.perf_counter()
            trained = self._train()
            spent = time.perf_counter() - started
            self._sample(spent if trained else 0.0)
            self.compute_seconds += time.perf_counter() - started
        self._disk.close()
        self._exports.close()

    # --- taking in --------------------------------------------------------------------------------------------------

    def _take_in(self) -> bool:
        """Move everything that has arrived into place; waits for the next message when there is nothing to do."""
        idle = not self._scheduler and not any(self._samplers.values())
        while idle or not self._inbox.empty():
            ticket, message = self._inbox.get()
            idle = False
            if message == CLOSE:
                return False
            try:
                self._accept(ticket, message)
            except Exception as error:
                self._fail(ticket, error)
        return True

    def _accept(self, ticket: int, message: Any) -> None:
        if message == CANCEL:
            for sampler in self._samplers.values():
                sampler.cancel(ticket)
        elif isinstance(message, c.Sample):
            self._sampler(message.base_model).add(ticket, message, self._version(message.version))
        elif isinstance(message, c.CheckLoss):
            rebuild(message.loss)
            self._reply(ticket, None)
        elif isinstance(message, c.LoadVersion):
            state = read_adapter(Path(message.directory), self._model(message.base_model).config, with_optimizer=False)
            backend = self._model(message.base_model).backend
            self._versions[message.version] = backend.version(state.layout, state.weights)
            self._reply(ticket, None)
        elif isinstance(message, c.DropVersion):
            self._versions.pop(message.version, None)
            self._owed.pop(message.version, None)
            self._reply(ticket, None)
        else:
            self._scheduler.add(Job(ticket, message, arrived=time.perf_counter()))

    # --- training ---------------------------------------------------------------------------------------------------

    def _train(self) -> bool:
        """Run what is ready besides passes, then one micro-batch; whether there was one."""
        while (job := self._scheduler.next_immediate()) is not None:
            try:
                self._immediate(job)
            except Exception as error:
                self._fail(job.ticket, error)
        batch = self._scheduler.next_micro_batch()
        if batch:
            self._micro_batch(batch)
        return bool(batch)

    def _immediate(self, job: Job) -> None:
        op, ticket = job.operation, job.ticket
        match op:
            case c.ForwardBackward():
                self._begin_pass(job, op)
            case c.OptimStep():
                self._reply(ticket, adamw_step(self._adapter(op.adapter).state, op.params))
            case c.CreateAdapter():
                self._create(op)
                self._reply(ticket, None)
            case c.LoadAdapter():
                model = self._model(op.base_model)
                state = read_adapter(Path(op.directory), model.config, op.with_optimizer)
                state.move(model.backend.device)
                self._adapters[op.adapter] = _Adapter(op.base_model, state, op.share)
                self._reply(ticket, c.AdapterInfo(state.lora, state.layout.size, state.steps))
            case c.Publish():
                adapter = self._adapter(op.adapter)
                image = capture(adapter.state, with_optimizer=False)
                self._versions[op.version] = self._model(adapter.model).backend.version(image.layout, image.weights)
                if not op.durable:
                    self._reply(ticket, None)
                self._persist(op, image, adapter.model, ticket)
            case c.SaveAdapter():
                adapter = self._adapter(op.adapter)
                if Path(op.directory).exists():
                    raise ServerError(f"checkpoint directory {op.directory} exists already")
                self._write(ticket, capture(adapter.state, op.with_optimizer), adapter.model, op.directory)
            case c.ExportAdapter():
                self._export(ticket, self._adapter(op.adapter), op)
            case c.Snapshot():
                adapter = self._adapter(op.adapter)
                image = capture(adapter.state, with_optimizer=True, with_gradient=True)
                self._write(ticket, image, adapter.model, op.directory, snapshot_of=op.adapter)
            case c.DropAdapter():
                self._adapters.pop(op.adapter, None)
                self._reply(ticket, None)

    def _create(self, op: c.CreateAdapter) -> None:
        model = self._model(op.base_model)
        check_lora(op.lora)
        state = new_adapter(model.config, op.lora)
        state.move(model.backend.device)
        self._adapters[op.adapter] = _Adapter(op.base_model, state, op.share)

    def _begin_pass(self, job: Job, op: c.ForwardBackward) -> None:
        """Check the data and cut it; the pieces then wait at the head of their adapter's line."""
        adapter = self._adapter(op.adapter)
        check_pass(op, self._model(adapter.model))
        gradient = None if op.forward_only else _gradient_copy(adapter.state)
        self._passes[job.ticket] = _Pass([], gradient, job.arrived)
        self._scheduler.put_back(job, cut(op, self._limits.micro_batch_tokens), adapter.model, adapter.share)

    def _micro_batch(self, batch: list[tuple[Job, Piece]]) -> None:
        adapters = {piece.adapter: self._adapters[piece.adapter] for _, piece in batch}
        model = self._models[next(iter(adapters.values())).model]
        states = {name: adapter.state for name, adapter in adapters.items()}
        several = len(batch) > 1
        gradients = {name: _gradient_copy(state) for name, state in states.items()} if several else {}
        self._cycle += 1
        tokens, started = sum(piece.tokens for _, piece in batch), time.perf_counter()
        try:
            results = run_pieces(model.decoder, [piece for _, piece in batch], states)
        except Exception as error:
            if not several:
                self._abandon(*batch[0], states[batch[0][1].adapter], error)
                return
            for name, gradient in gradients.items():  # as before; then only the one that is at fault fails
                states[name].set_gradient(gradient)
            for one in batch:
                self._micro_batch([one])
            return
        seconds, fill = time.perf_counter() - started, tokens / self._scheduler.max_tokens
        for (job, piece), result in zip(batch, results, strict=True):
            work = self._passes[job.ticket]
            work.took_part(self._cycle, started, seconds, piece.tokens / tokens, fill)
            work.results.append((piece, result))
            if not job.pieces:
                del self._passes[job.ticket]
                self._reply(job.ticket, _pass_result(job.operation, work))

    def _abandon(self, job: Job, piece: Piece, state: AdapterState, error: Exception) -> None:
        """A pass that failed half-way: put its adapter's gradient back and go on with the next operation."""
        work = self._passes.pop(job.ticket)
        if piece.backward:
            state.set_gradient(work.gradient_before)
        self._scheduler.remove(job)
        self._fail(job.ticket, error)

    # --- sampling ---------------------------------------------------------------------------------------------------

    def _sample(self, seconds: float) -> None:
        """Advance every sampler by a token, and again until `seconds` have passed."""
        stop = time.perf_counter() + seconds
        while any(self._samplers.values()):
            for sampler in self._samplers.values():
                if sampler:
                    finished = sampler.step()
                    for ticket, result in [*sampler.take_parts(), *finished]:
                        self._reply(ticket, result)
            if time.perf_counter() >= stop or not self._inbox.empty():
                return

    def _sampler(self, base_model: str) -> Sampler:
        if base_model not in self._samplers:
            model, limits = self._model(base_model), self._limits
            per_token = (
                2 * model.backend.dtype.itemsize * model.config.layers * model.config.kv_heads * model.config.head_dim
            )
            tokens = min(limits.cache_tokens, limits.cache_bytes // per_token)
            self._samplers[base_model] = Sampler(model, limits.sample_rows, tokens, limits.prefill_tokens)
        return self._samplers[base_model]

    # --- looking up, writing, failing -------------------------------------------------------------------------------

    def _model(self, name: str) -> LoadedModel:
        if name not in self._models:
            raise UserError(f"base model {name!r} is not served here; this server has {', '.join(self._models)}")
        return self._models[name]

    def _adapter(self, name: str) -> _Adapter:
        if name not in self._adapters:
            raise UserError(f"training run {name!r} does not exist; it was never created, or its creation failed")
        return self._adapters[name]

    def _version(self, name: str | None) -> AdapterVersion | None:
        if name is None:
            return None
        if name not in self._versions:
            raise ServerError(f"sampler version {name!r} is not loaded")
        return self._versions[name]

    def _write(
        self, ticket: int, image: AdapterImage, base_model: str, directory: str, snapshot_of: str | None = None
    ) -> None:
        """Write on the disk lane, and reply from there."""

        def task() -> None:
            try:
                if snapshot_of is not None:
                    self._write_owed(snapshot_of)
                size = write_image(image, base_model, Path(directory))
            except Exception as error:
                self._fail(ticket, error)
            else:
                self._reply(ticket, size)

        self._disk.put(task)

    def _persist(self, op: c.Publish, image: AdapterImage, base_model: str, ticket: int) -> None:
        """Write a version on the disk lane. A durable one is replied to from there, others were when in memory."""

        def write() -> int:
            if Path(op.directory).exists():  # a replayed publication
                shutil.rmtree(op.directory)
            return write_image(image, base_model, Path(op.directory))

        def durable() -> None:
            try:
                size = write()
            except Exception as error:
                self._fail(ticket, error)
            else:
                self._reply(ticket, size)

        def task() -> None:
            self._owed[op.version] = op.adapter, write
            try:
                self._write_owed(op.adapter)
            except Exception as error:
                logger.error("a sampler version is not on disk yet, the next snapshot tries again: %s", error)

        self._disk.put(durable if op.durable else task)

    def _write_owed(self, adapter: str) -> None:
        """On the disk lane: a snapshot ends the replays that would publish these versions once more."""
        for version, (owner, write) in list(self._owed.items()):
            if owner == adapter:
                write()
                self._owed.pop(version, None)

    def _export(self, ticket: int, adapter: _Adapter, op: c.ExportAdapter) -> None:
        """Write for other tools on a lane of their own, and reply from there: checking takes seconds."""
        recipients, model = parse_recipients(op.recipients), self._model(adapter.model)
        image = capture(adapter.state, with_optimizer=False)
        probe: Probe | str = f"only exports of models with up to {self._limits.checked_parameters} parameters are"
        if model.parameters <= self._limits.checked_parameters:
            probe = take_probe(model, adapter.state)

        def task() -> None:
            try:
                size = write_export(image, adapter.model, Path(op.directory), recipients, probe)
            except Exception as error:
                self._fail(ticket, error)
            else:
                self._reply(ticket, size)

        self._exports.put(task)

    def _fail(self, ticket: int, error: Exception) -> None:
        if not isinstance(error, HoneError):
            logger.error("operation %d failed:\n%s", ticket, "".join(traceback.format_exception(error)))
            error = ServerError(f"the engine failed on this operation: {type(error).__name__}: {error}")
        self._reply(ticket, error)


def _gradient_copy(state: AdapterState) -> Tensor | None:
    return None if state.gradient is None else state.gradient.clone()


def check_pass(op: c.ForwardBackward, model: LoadedModel) -> None:
    """`UserError` unless every datum fits the loss and the model."""
    if op.custom is None and op.loss_fn not in LOSSES:
        raise UserError(f"loss_fn {op.loss_fn!r} is unknown; this server has {', '.join(sorted(LOSSES))}")
    if not op.data:
        raise UserError("data is empty; forward and forward_backward need at least one datum")
    for i, datum in enumerate(op.data):
        if op.custom is not None:
            check_custom_datum(op.custom, datum, i, model.config.vocab_size)
        else:
            check_datum(op.loss_fn, datum, i, model.config.vocab_size)
        if len(datum.tokens) > model.config.max_context:
            found, context = len(datum.tokens), model.config.max_context
            raise UserError(f"data[{i}].model_input has {found} tokens; this model's context is {context}")


def _pass_result(op: c.AdapterOperation, work: _Pass) -> ForwardBackwardResult:
    assert isinstance(op, c.ForwardBackward)
    results = work.results
    logprobs: list[np.ndarray] = [np.empty(0)] * len(op.data)
    for piece, result in results:
        for place, values in zip(piece.places, result.logprobs, strict=True):
            logprobs[place] = values
    metrics = {"loss:sum": sum(result.loss for _, result in results)}
    for _, result in results:
        for key, value in result.metrics.items():
            metrics[key] = metrics.get(key, 0.0) + (value / len(op.data) if key.endswith(":mean") else value)
    if op.loss_fn == "stable_reinforce":
        metrics["stable_reinforce_substitute:mean"] = 1.0
    return ForwardBackwardResult(tuple(logprobs), metrics | work.metrics())
