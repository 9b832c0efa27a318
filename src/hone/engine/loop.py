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
from dataclasses import dataclass
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
from hone.engine.sampling.sampler import Sampler
from hone.engine.sampling.version import AdapterVersion, make_version
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


@dataclass(eq=False)
class _Adapter:
    model: str
    state: AdapterState


@dataclass(eq=False)
class _Pass:
    """A forward or backward pass under way: its pieces' results so far."""

    results: list[tuple[Piece, PieceResult]]
    gradient_before: Tensor | None
    """What to put back if a piece fails, so that a failed operation leaves no trace."""


class EngineLoop:
    def __init__(self, models: dict[str, LoadedModel], limits: Limits, reply: Reply) -> None:
        self._models, self._limits, self._reply = models, limits, reply
        self._inbox: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._scheduler = Scheduler(limits.micro_batch_tokens)
        self._adapters: dict[str, _Adapter] = {}
        self._versions: dict[str, AdapterVersion] = {}
        self._samplers: dict[str, Sampler] = {}
        self._passes: dict[int, _Pass] = {}
        self._disk = DiskLane()
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
            self._versions[message.version] = make_version(state.layout, state.weights)
            self._reply(ticket, None)
        elif isinstance(message, c.DropVersion):
            self._versions.pop(message.version, None)
            self._reply(ticket, None)
        else:
            self._scheduler.add(Job(ticket, message))

    # --- training ---------------------------------------------------------------------------------------------------

    def _train(self) -> bool:
        """Run what is ready besides passes, then one micro-batch; whether there was one."""
        while (job := self._scheduler.next_immediate()) is not None:
            try:
                self._immediate(job)
            except Exception as error:
                self._fail(job.ticket, error)
        batch = self._scheduler.next_micro_batch(lambda adapter: self._adapters[adapter].model)
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
                state = read_adapter(Path(op.directory), self._model(op.base_model).config, op.with_optimizer)
                self._adapters[op.adapter] = _Adapter(op.base_model, state)
                self._reply(ticket, c.AdapterInfo(state.lora, state.layout.size, state.steps))
            case c.Publish():
                adapter = self._adapter(op.adapter)
                image = capture(adapter.state, with_optimizer=False)
                self._versions[op.version] = make_version(image.layout, image.weights)
                if not op.durable:
                    self._reply(ticket, None)
                self._write(ticket if op.durable else None, image, adapter.model, op.directory, replace=True)
            case c.SaveAdapter():
                adapter = self._adapter(op.adapter)
                if Path(op.directory).exists():
                    raise ServerError(f"checkpoint directory {op.directory} exists already")
                self._write(ticket, capture(adapter.state, op.with_optimizer), adapter.model, op.directory)
            case c.ExportAdapter():
                adapter = self._adapter(op.adapter)
                self._export(ticket, capture(adapter.state, with_optimizer=False), adapter.model, op)
            case c.Snapshot():
                adapter = self._adapter(op.adapter)
                image = capture(adapter.state, with_optimizer=True, with_gradient=True)
                self._write(ticket, image, adapter.model, op.directory)
            case c.DropAdapter():
                self._adapters.pop(op.adapter, None)
                self._reply(ticket, None)

    def _create(self, op: c.CreateAdapter) -> None:
        lora, config = op.lora, self._model(op.base_model).config
        check_lora(lora)
        self._adapters[op.adapter] = _Adapter(op.base_model, new_adapter(config, lora))

    def _begin_pass(self, job: Job, op: c.ForwardBackward) -> None:
        """Check the data and cut it; the pieces then wait at the head of their adapter's line."""
        adapter = self._adapter(op.adapter)
        check_pass(op, self._model(adapter.model))
        self._passes[job.ticket] = _Pass([], None if op.forward_only else _gradient_copy(adapter.state))
        self._scheduler.put_back(job, cut(op, self._limits.micro_batch_tokens))

    def _micro_batch(self, batch: list[tuple[Job, Piece]]) -> None:
        adapters = {piece.adapter: self._adapters[piece.adapter] for _, piece in batch}
        model = self._models[next(iter(adapters.values())).model]
        states = {name: adapter.state for name, adapter in adapters.items()}
        several = len(batch) > 1
        gradients = {name: _gradient_copy(state) for name, state in states.items()} if several else {}
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
        for (job, piece), result in zip(batch, results, strict=True):
            work = self._passes[job.ticket]
            work.results.append((piece, result))
            if not job.pieces:
                del self._passes[job.ticket]
                self._reply(job.ticket, _pass_result(job.operation, work.results))

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
            per_token = 8 * model.config.layers * model.config.kv_heads * model.config.head_dim
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
        self, ticket: int | None, image: AdapterImage, base_model: str, directory: str, replace: bool = False
    ) -> None:
        """Write on the disk lane, and reply from there if there is a `ticket`."""

        def task() -> None:
            try:
                if replace and Path(directory).exists():  # a replayed publication
                    shutil.rmtree(directory)
                size = write_image(image, base_model, Path(directory))
            except Exception as error:
                if ticket is None:
                    logger.exception("could not persist a sampler version at %s", directory)
                else:
                    self._fail(ticket, error)
            else:
                if ticket is not None:
                    self._reply(ticket, size)

        self._disk.put(task)

    def _export(self, ticket: int, image: AdapterImage, base_model: str, op: c.ExportAdapter) -> None:
        """Write for other tools on the disk lane, and reply from there."""
        recipients = parse_recipients(op.recipients)

        def task() -> None:
            try:
                size = write_export(image, base_model, Path(op.directory), recipients)
            except Exception as error:
                self._fail(ticket, error)
            else:
                self._reply(ticket, size)

        self._disk.put(task)

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


def _pass_result(op: c.AdapterOperation, results: list[tuple[Piece, PieceResult]]) -> ForwardBackwardResult:
    assert isinstance(op, c.ForwardBackward)
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
    return ForwardBackwardResult(tuple(logprobs), metrics)
