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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hone.engine import contract as c
from hone.engine.attention import BLOCK, KeyValueCache
from hone.engine.batch import Piece
from hone.engine.checkpoints import AdapterImage, capture, read_adapter, read_weights, write_image
from hone.engine.disk import DiskLane
from hone.engine.exports import parse_recipients, write_export
from hone.engine.limits import Limits
from hone.engine.lora.state import AdapterState, new_adapter
from hone.engine.losses.custom.graph import rebuild
from hone.engine.models.load import LoadedModel
from hone.engine.optim.adamw import adamw_step
from hone.engine.parity import Probe, take_probe
from hone.engine.passes import Adapter, Passes
from hone.engine.sampling.sampler import Sampler
from hone.engine.sampling.samplers import Samplers
from hone.engine.sampling.version import AdapterVersion
from hone.engine.scheduler import Job, Scheduler
from hone.engine.tiers import tiers_for
from hone.engine.wide import helped_by
from hone.engine.wire import CANCEL, CLOSE
from hone.engine.workers import Workers
from hone.errors import HoneError, ServerError, UserError
from hone.memory import return_freed_bytes
from hone.protocol.lora import check_lora
from hone.protocol.model_input import no_image

logger = logging.getLogger(__name__)

CAPTURED_BYTES = 8 << 20
"""Of copies of adapters that wait for the disk; beyond it, those that want to be copied wait too."""

REST_SECONDS = 10.0
"""Without passes and samples, until the memory that they left behind goes back to the system; the next step takes it
again, which costs a twentieth of its time or a millisecond."""
PAUSE_SECONDS = 1.0
"""At least that long without a message too."""

Reply = Callable[[int, Any], None]
"""Called with a ticket and a result or an exception, from the loop's thread or the disk lane's."""


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
        self._workers = Workers(limits.training_threads)
        self._passes = Passes(limits, self._scheduler, reply, self._fail, self._workers)
        self._adapters: dict[str, Adapter] = {}
        device = next(iter(models.values())).backend.device  # of all of them
        self._tiers = tiers_for(device, limits.adapter_bytes, self._scheduler.has_work)
        self._versions: dict[str, AdapterVersion] = {}
        self._samplers = Samplers(self._sampler, reply, self._fail)
        self._disk, self._exports, self._reads = DiskLane(), DiskLane(), DiskLane()
        self._awaited: set[str] = set()
        """Versions that are being read."""
        self._owed: dict[str, tuple[str, Callable[[], int]]] = {}
        """By version, the adapters whose publication could not be written, and what tries again."""
        self._captured = 0
        """Bytes of copies that wait for the disk."""
        self._uncaptured: deque[Job] = deque()
        self.compute_seconds = 0.0
        self._computed = time.perf_counter()
        """When the last pass or step of samples ended."""

    def put(self, ticket: int, message: Any) -> None:
        """Hand over an operation, `CANCEL` or `CLOSE`; may be called from any thread."""
        self._inbox.put((ticket, message))

    def run(self) -> None:
        """Work until `CLOSE` arrives; returns when the disk lane is empty."""
        owed = 0.0  # seconds that the sampler has before the next micro-batch
        with helped_by(self._workers):
            while self._take_in():
                started = time.perf_counter()
                self._run_immediate()
                if owed <= 0 and (batch := self._scheduler.next_micro_batch()):
                    self._compute(batch)
                    self._run_immediate()  # steps whose gradients are complete now wait for no sample
                    owed = time.perf_counter() - started
                owed = self._sample(owed)
                self.compute_seconds += time.perf_counter() - started
        for lane in (self._disk, self._exports, self._reads):
            lane.close()
        self._workers.close()
        self._samplers.close()

    # --- taking in --------------------------------------------------------------------------------------------------

    def _take_in(self) -> bool:
        """Move everything that has arrived into place; waits for the next message when there is nothing to do."""
        idle = not self._scheduler and not self._samplers
        while idle or not self._inbox.empty():
            ticket, message = self._wait() if idle else self._inbox.get()
            idle = False
            if message == CLOSE:
                return False
            try:
                self._accept(ticket, message)
            except Exception as error:
                self._fail(ticket, error)
        return True

    def _wait(self) -> tuple[int, Any]:
        rest = self._computed + REST_SECONDS - time.perf_counter()  # copies to disk in the meantime do not prolong it
        try:
            return self._inbox.get(timeout=max(rest, PAUSE_SECONDS))
        except queue.Empty:
            return_freed_bytes()
            return self._inbox.get()

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
            self._versions.pop(message.version, None)
            self._awaited.discard(message.version)
            self._owed.pop(message.version, None)
            self._reply(ticket, None)
        else:
            self._scheduler.add(Job(ticket, message, arrived=time.perf_counter()))
            if isinstance(message, c.ForwardBackward | c.OptimStep):
                self._tiers.expect(message.adapter)

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
                adapter = self._adapter(op.adapter)
                self._tiers.read(op.adapter)
                self._passes.begin(job, op, adapter, self._model(adapter.model))
            case c.OptimStep():
                state = self._adapter(op.adapter).state
                self._tiers.use([op.adapter])
                self._reply(ticket, adamw_step(state, op.params))
            case c.CreateAdapter():
                self._create(op)
                self._reply(ticket, None)
            case c.LoadAdapter():
                self._load_adapter(job, op)
            case c.Publish():
                adapter = self._adapter(op.adapter)
                image = capture(self._tiers.read(op.adapter), with_optimizer=False)
                self._versions[op.version] = self._model(adapter.model).backend.version(image.layout, image.weights)
                if not op.durable:
                    self._reply(ticket, None)
                self._persist(op, image, adapter.model, ticket)
            case c.SaveAdapter():
                adapter = self._adapter(op.adapter)
                if Path(op.directory).exists():
                    raise ServerError(f"checkpoint directory {op.directory} exists already")
                if self._may_capture(job):
                    image = capture(self._tiers.read(op.adapter), op.with_optimizer)
                    self._write(ticket, image, adapter.model, op.directory)
            case c.ExportAdapter():
                self._export(ticket, self._adapter(op.adapter), op)
            case c.Snapshot():
                adapter = self._adapter(op.adapter)
                if self._may_capture(job):
                    image = capture(self._tiers.read(op.adapter), with_optimizer=True, with_gradient=True)
                    self._write(ticket, image, adapter.model, op.directory, snapshot_of=op.adapter)
            case c.DropAdapter():
                self._adapters.pop(op.adapter, None)
                self._tiers.leave(op.adapter)
                self._reply(ticket, None)

    def _create(self, op: c.CreateAdapter) -> None:
        model = self._model(op.base_model)
        check_lora(op.lora)
        self._have(op, new_adapter(model.config, op.lora))

    def _have(self, op: c.CreateAdapter | c.LoadAdapter, state: AdapterState) -> None:
        self._adapters[op.adapter] = Adapter(op.base_model, state, op.share)
        self._tiers.enter(op.adapter, state)

    def _compute(self, batch: list[tuple[Job, Piece]]) -> None:
        adapters = {piece.adapter: self._adapters[piece.adapter] for _, piece in batch}
        self._tiers.use(adapters)
        base_model = adapters[batch[0][1].adapter].model  # of all of them
        states = {name: adapter.state for name, adapter in adapters.items()}
        self._passes.compute(batch, self._models[base_model], states)
        self._computed = time.perf_counter()

    # --- sampling ---------------------------------------------------------------------------------------------------

    def _sample(self, seconds: float) -> float:
        """Advance every sampler by a token, and again until `seconds` have passed. Stops early for what arrives, and
        says how many are left."""
        stop = time.perf_counter() + seconds
        while self._samplers:
            self._samplers.step()
            self._computed = time.perf_counter()
            left = stop - self._computed
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
            self._have(op, state)
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

    def _adapter(self, name: str) -> Adapter:
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

    def _export(self, ticket: int, adapter: Adapter, op: c.ExportAdapter) -> None:
        """Write for other tools on a lane of their own, and reply from there: checking takes seconds."""
        recipients, model = parse_recipients(op.recipients), self._model(adapter.model)
        image = capture(self._tiers.read(op.adapter), with_optimizer=False)
        probe: Probe | str = f"only exports of models with up to {self._limits.checked_parameters} parameters are"
        if model.parameters <= self._limits.checked_parameters:
            self._tiers.use([op.adapter])
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
