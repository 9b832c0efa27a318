"""The engine's one thread: takes operations in, lets the scheduler choose, computes, gives results out.

Training and sampling share the thread by time: after a micro-batch the sampler runs for as long as the micro-batch
took.
"""

import logging
import queue
import shutil
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from hone.engine import contract as c
from hone.engine.attention import BLOCK, KeyValueCache
from hone.engine.batch import Piece, cut
from hone.engine.checkpoints import AdapterImage, capture, read_adapter, read_weights, write_image
from hone.engine.disk import DiskLane
from hone.engine.exports import parse_recipients, write_export
from hone.engine.heap import Heap
from hone.engine.lora.state import AdapterState, new_adapter
from hone.engine.losses.custom.evaluate import check_custom_datum
from hone.engine.losses.custom.graph import rebuild
from hone.engine.models.load import LoadedModel
from hone.engine.models.vision import check_images
from hone.engine.optim.adamw import adamw_step
from hone.engine.parity import Probe, take_probe
from hone.engine.sampling.sampler import Sampler
from hone.engine.sampling.samplers import Samplers
from hone.engine.sampling.version import AdapterVersion
from hone.engine.scheduler import Job, Scheduler
from hone.engine.shortage import free_device_memory, halves, is_lack_of_memory, too_large
from hone.engine.side_by_side import SideBySide
from hone.engine.trainer import PieceResult
from hone.engine.wire import CANCEL, CLOSE
from hone.errors import HoneError, ServerError, UserError
from hone.memory import MemoryShares
from hone.protocol.lora import check_lora
from hone.protocol.losses import LOSSES, check_datum
from hone.protocol.model_input import no_image
from hone.protocol.types import ForwardBackwardResult

logger = logging.getLogger(__name__)

LEAST_TOKENS = 64
"""Of a micro-batch, for want of memory."""

CAPTURED_BYTES = 32 << 20
"""Of copies of adapters that wait for the disk; beyond it, those that want to be copied wait too."""

Reply = Callable[[int, Any], None]
"""Called with a ticket and a result or an exception, from the loop's thread or the disk lane's."""


@dataclass(frozen=True)
class Limits:
    """Sizes that trade speed against waiting and memory."""

    micro_batch_tokens: int = 2048
    """Of one training pass. Larger feeds the device better and makes other tenants wait longer."""
    training_threads: int = 1
    """Of a training pass on a CPU, each with one thread of the math library; see `side_by_side.py`."""
    sample_rows: int = 64
    """Sequences generated at once on one base model."""
    prefill_tokens: int = 512
    """Prompt tokens computed between two tokens of the running batch. Larger makes these wait longer; on a CPU it gains
    nothing from here on."""
    activation_bytes: int = 1 << 30
    """Of one training pass. Layers are computed again where it would take more, which costs time; see
    `recompute.py`."""
    cache_bytes: int = 1 << 30
    """Key-value cache of one base model; memory is only used as it fills. When it is full, some sequences wait and are
    computed again later."""
    cache_tokens: int = 1 << 17
    """The same in tokens, but always room for one whole context: small models would otherwise keep far more than
    anybody asks for again."""
    checked_parameters: int = 2_000_000_000
    """Exports of larger base models are not compared with transformers, which loads the model once more."""

    @classmethod
    def within(cls, shares: MemoryShares, models: Mapping[str, LoadedModel], preferred: "Limits") -> "Limits":
        """Those that keep to the shares of memory, and otherwise are the preferred ones. A micro-batch is never so
        small that it would be mostly overhead."""
        fitting = min(model.memory.most_tokens(shares.passes) for model in models.values())
        tokens = max(LEAST_TOKENS, min(preferred.micro_batch_tokens, fitting))
        memory = {"activation_bytes": shares.passes, "cache_bytes": shares.cache // len(models)}
        return replace(preferred, micro_batch_tokens=tokens, **memory)


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


@dataclass(frozen=True)
class _Read:
    """What came from disk, or why nothing did."""

    found: Any
    keep: Callable[[Any], Any]
    job: Job | None
    """Whose line rests."""


@dataclass(frozen=True)
class _Written:
    """A copy of so many bytes is on disk, or failed to be."""

    size: int


class EngineLoop:
    def __init__(self, models: dict[str, LoadedModel], limits: Limits, reply: Reply) -> None:
        self._models, self._limits, self._reply = models, limits, reply
        self._inbox: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._scheduler = Scheduler(limits.micro_batch_tokens)
        self._passing = SideBySide(limits.training_threads)
        self._adapters: dict[str, _Adapter] = {}
        self._versions: dict[str, AdapterVersion] = {}
        self._samplers = Samplers(self._sampler, reply, self._fail)
        self._passes: dict[int, _Pass] = {}
        self._disk, self._exports, self._reads = DiskLane(), DiskLane(), DiskLane()
        self._awaited: set[str] = set()
        """Versions that are being read."""
        self._owed: dict[str, tuple[str, Callable[[], int]]] = {}
        """By version, the adapters whose publication could not be written, and what tries again."""
        self._captured = 0
        """Bytes of copies that wait for the disk."""
        self._uncaptured: deque[Job] = deque()
        self._heap = Heap()
        self._cycle = 0
        """Micro-batches so far."""
        self.compute_seconds = 0.0

    def put(self, ticket: int, message: Any) -> None:
        """Hand over an operation, `CANCEL` or `CLOSE`; may be called from any thread."""
        self._inbox.put((ticket, message))

    def run(self) -> None:
        """Work until `CLOSE` arrives; returns when the disk lane is empty."""
        owed = 0.0  # seconds that the sampler has before the next micro-batch
        while self._take_in():
            started = time.perf_counter()
            self._run_immediate()
            if owed <= 0 and (batch := self._scheduler.next_micro_batch()):
                self._micro_batch(batch)
                owed = time.perf_counter() - started
            owed = self._sample(owed)
            self.compute_seconds += time.perf_counter() - started
        for lane in (self._disk, self._exports, self._reads):
            lane.close()
        self._passing.close()
        self._samplers.close()

    # --- taking in --------------------------------------------------------------------------------------------------

    def _take_in(self) -> bool:
        """Move everything that has arrived into place; waits for the next message when there is nothing to do."""
        idle = not self._scheduler and not self._samplers
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
            self._samplers.cancel(ticket)
        elif isinstance(message, c.Sample):
            self._samplers.add(ticket, message, self._version(message.version))
        elif isinstance(message, c.CheckLoss):
            rebuild(message.loss)
            self._reply(ticket, None)
        elif isinstance(message, c.CountImageTokens):
            self._reply(ticket, self._count(message))
        elif isinstance(message, c.LoadVersion):
            self._load_version(ticket, message)
        elif isinstance(message, _Read):
            self._take_read(ticket, message)
        elif isinstance(message, _Written):
            self._take_written(message)
        elif isinstance(message, c.DropVersion):
            version = self._versions.pop(message.version, None)
            self._awaited.discard(message.version)
            self._heap.freed(0 if version is None else version.bytes)
            self._owed.pop(message.version, None)
            self._reply(ticket, None)
        else:
            self._scheduler.add(Job(ticket, message, arrived=time.perf_counter()))

    def _count(self, op: c.CountImageTokens) -> tuple[int, ...]:
        vision = self._model(op.base_model).vision
        if isinstance(vision, str):
            raise no_image("the input", 0, vision)
        return tuple(vision.count(image, f"image {i}") for i, image in enumerate(op.images))

    # --- training ---------------------------------------------------------------------------------------------------

    def _run_immediate(self) -> None:
        """Run what is ready besides passes."""
        while (job := self._scheduler.next_immediate()) is not None:
            try:
                self._immediate(job)
            except Exception as error:
                self._fail(job.ticket, error)

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
                self._load_adapter(job, op)
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
                if self._may_capture(job):
                    self._write(ticket, capture(adapter.state, op.with_optimizer), adapter.model, op.directory)
            case c.ExportAdapter():
                self._export(ticket, self._adapter(op.adapter), op)
            case c.Snapshot():
                adapter = self._adapter(op.adapter)
                if self._may_capture(job):
                    image = capture(adapter.state, with_optimizer=True, with_gradient=True)
                    self._write(ticket, image, adapter.model, op.directory, snapshot_of=op.adapter)
            case c.DropAdapter():
                gone = self._adapters.pop(op.adapter, None)
                self._heap.freed(0 if gone is None else 12 * gone.state.layout.size)
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
        jobs, pieces = [job for job, _ in batch], [piece for _, piece in batch]
        states = {piece.adapter: self._adapters[piece.adapter].state for piece in pieces}
        model = self._models[self._adapters[pieces[0].adapter].model]
        self._cycle += 1
        tokens, started = sum(piece.tokens for piece in pieces), time.perf_counter()
        results = _compute(self._passing, model, pieces, states, self._recomputed(model, pieces, states))
        if isinstance(results, Exception) and len(batch) > 1:  # apart, only the one that is at fault fails
            for one in batch:
                self._micro_batch([one])
            return
        if isinstance(results, Exception) and is_lack_of_memory(results):
            logger.warning("a pass over %d tokens found no memory; trying its halves: %s", tokens, results)
            pieces = halves(pieces[0])
            jobs *= len(pieces)
            results = _compute_apart(self._passing, model, pieces, states)
        if isinstance(results, Exception):
            self._abandon(*batch[0], states[pieces[0].adapter], results)
            return
        seconds, fill = time.perf_counter() - started, tokens / self._scheduler.max_tokens
        for job, piece, result in zip(jobs, pieces, results, strict=True):
            work = self._passes[job.ticket]
            work.took_part(self._cycle, started, seconds, piece.tokens / tokens, fill)
            work.results.append((piece, result))
        for job, _ in batch:
            if not job.pieces:
                self._reply(job.ticket, _pass_result(job.operation, self._passes.pop(job.ticket)))

    def _recomputed(self, model: LoadedModel, pieces: list[Piece], states: dict[str, AdapterState]) -> int:
        """How many layers a pass computes again."""
        if not pieces[0].backward:
            return 0
        inner = sum(piece.tokens * states[piece.adapter].layout.inner for piece in pieces)
        return model.memory.recomputed(sum(piece.tokens for piece in pieces), inner, self._limits.activation_bytes)

    def _abandon(self, job: Job, piece: Piece, state: AdapterState, error: Exception) -> None:
        """A pass that failed half-way: put its adapter's gradient back and go on with the next operation."""
        work = self._passes.pop(job.ticket)
        if piece.backward:
            state.set_gradient(work.gradient_before)
        self._scheduler.remove(job)
        self._fail(job.ticket, error)

    # --- sampling ---------------------------------------------------------------------------------------------------

    def _sample(self, seconds: float) -> float:
        """Advance every sampler by a token, and again until `seconds` have passed. Stops early for what arrives, and
        says how many are left."""
        stop = time.perf_counter() + seconds
        while self._samplers:
            self._samplers.step()
            left = stop - time.perf_counter()
            if left <= 0 or not self._inbox.empty():
                return left
        return 0.0

    def _sampler(self, base_model: str) -> Sampler:
        model, limits = self._model(base_model), self._limits
        config = model.config
        per_block = KeyValueCache.block_bytes(config.layers, config.kv_heads, config.head_dim, model.backend.dtype)
        tokens = max(limits.cache_tokens, config.max_context)
        cache_bytes = min(limits.cache_bytes, -(-tokens // BLOCK) * per_block)
        return Sampler(model, limits.sample_rows, cache_bytes, limits.prefill_tokens, limits.training_threads)

    # --- reading ----------------------------------------------------------------------------------------------------

    def _load_adapter(self, job: Job, op: c.LoadAdapter) -> None:
        """Its line rests until it is read; everybody else's work goes on."""
        model = self._model(op.base_model)

        def keep(state: AdapterState) -> c.AdapterInfo:
            state.move(model.backend.device)
            self._adapters[op.adapter] = _Adapter(op.base_model, state, op.share)
            return c.AdapterInfo(state.lora, state.layout.size, state.steps)

        self._scheduler.rest(job)
        self._read(job.ticket, lambda: read_adapter(Path(op.directory), model.config, op.with_optimizer), keep, job)

    def _load_version(self, ticket: int, op: c.LoadVersion) -> None:
        model = self._model(op.base_model)

        def read() -> AdapterVersion:
            return model.backend.version(*read_weights(Path(op.directory), model.config))

        def keep(version: AdapterVersion) -> None:
            if op.version in self._awaited:  # else it was dropped meanwhile
                self._awaited.remove(op.version)
                self._versions[op.version] = version

        self._awaited.add(op.version)
        self._read(ticket, read, keep)

    def _read(self, ticket: int, read: Callable[[], Any], keep: Callable[[Any], Any], job: Job | None = None) -> None:
        """Run `read` beside the computing, then `keep` here; its result is the operation's."""

        def task() -> None:
            try:
                found = read()
            except Exception as error:
                found = error
            self._inbox.put((ticket, _Read(found, keep, job)))

        self._reads.put(task)

    def _take_read(self, ticket: int, done: "_Read") -> None:
        if done.job is not None:
            self._scheduler.remove(done.job)
        if isinstance(done.found, Exception):
            raise done.found
        self._reply(ticket, done.keep(done.found))

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

        self._captured += image.bytes

        def task() -> None:
            try:
                if snapshot_of is not None:
                    self._write_owed(snapshot_of)
                size = write_image(image, base_model, Path(directory))
            except Exception as error:
                self._fail(ticket, error)
            else:
                self._reply(ticket, size)
            self._inbox.put((0, _Written(image.bytes)))

        self._disk.put(task)

    def _may_capture(self, job: Job) -> bool:
        """Whether a copy may be made now. If not, the job is taken up when the disk has written others: copies of all
        adapters at once would take as much memory as they do."""
        if self._captured < CAPTURED_BYTES:
            return True
        self._scheduler.rest(job)
        self._uncaptured.append(job)
        return False

    def _take_written(self, done: "_Written") -> None:
        self._captured -= done.size
        while self._uncaptured and self._captured < CAPTURED_BYTES:
            job = self._uncaptured.popleft()
            self._scheduler.remove(job)
            try:
                self._immediate(job)
            except Exception as error:
                self._fail(job.ticket, error)

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


def _compute(
    passing: SideBySide, model: LoadedModel, pieces: list[Piece], states: dict[str, AdapterState], recomputed: int
) -> list[PieceResult] | Exception:
    """The pieces' results; or why there are none, with all gradients as they were."""
    gradients: dict[str, Tensor | None] = {}
    try:
        gradients = {name: _gradient_copy(state) for name, state in states.items()}
        return passing.run_pieces(model.decoder, pieces, states, recomputed)
    except Exception as error:
        # the frames of the traceback hold all that the pass had kept
        failure = error.with_traceback(None) if is_lack_of_memory(error) else error
    for name, gradient in gradients.items():
        states[name].set_gradient(gradient)
    if is_lack_of_memory(failure):
        free_device_memory()
    return failure


def _compute_apart(
    passing: SideBySide, model: LoadedModel, pieces: list[Piece], states: dict[str, AdapterState]
) -> list[PieceResult] | Exception:
    """One piece after another, with every layer computed again, for want of memory."""
    results: list[PieceResult] = []
    for piece in pieces:
        found = _compute(passing, model, [piece], states, model.decoder.layers)
        if isinstance(found, Exception):
            return too_large(piece, found) if is_lack_of_memory(found) else found
        results += found
    return results


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
        check_images(datum.images, model.vision, f"data[{i}].model_input")


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
