"""Runs the operations of one model in order, and rebuilds the model when the engine does not have it.

The lane's task is the only one that submits for the model, so order is the order of the loop in `_run`: wait for work,
wait for an engine, rebuild if it is another one, submit. Answers are seen through beside the loop: operations pipeline.
"""

import asyncio
import json
import logging
import secrets
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from hone.engine.contract import AdapterInfo, DropAdapter, LoadAdapter, Operation, OptimStep, Publish, Snapshot
from hone.errors import EngineLostError, HoneError, NotFoundError, ServerError, UserError
from hone.observe import spans
from hone.protocol.futures import Outcome, failure, failure_of
from hone.protocol.lora import check_lora
from hone.server.budgets import Budgets
from hone.server.futures import Futures
from hone.server.journal import ROOM_SECONDS, Entry, Journal, Passed, Write
from hone.server.operations import HANDLERS, Context
from hone.server.operations.create_model import new_model
from hone.server.operations.save_weights_for_sampler import UNNAMED
from hone.server.ordering import SequenceGate
from hone.server.recovery import ATTEMPTS, EngineKeeper
from hone.server.residency import BYTES_PER_PARAMETER, Residency
from hone.server.snapshots import SnapshotPolicy, Uncovered
from hone.server.usage import NOTHING, Amounts
from hone.server.versions import Versions

log = logging.getLogger(__name__)

AHEAD_BYTES = 64 << 20
"""Of a model's requests that the engine has at once, and that wait here in memory; what comes on top waits in the
journal. One is always let through."""
ABSENT = -1
"""The generation of a model that no engine has."""


@dataclass(frozen=True)
class Shared:
    """What all lanes use."""

    context: Context
    journal: Journal
    futures: Futures
    keeper: EngineKeeper
    versions: Versions
    budgets: Budgets
    policy: SnapshotPolicy
    residency: Residency
    gap_seconds: float
    idle_seconds: float


class Lane:
    def __init__(self, model_id: str, shared: Shared, submitted: int) -> None:
        """`submitted` is the number of the last operation that went to an engine, now or in an earlier life."""
        self.model_id = model_id
        self._shared = shared
        self._gate: SequenceGate[Entry] = SequenceGate(submitted + 1)
        self._gap: asyncio.TimerHandle | None = None
        self._queue: deque[Entry] = deque()
        self.submitted = submitted
        self._unanswered: dict[int, Entry] = {}
        self._answering: dict[int, asyncio.Task[None]] = {}
        """The unanswered operations that somebody sees through. After a loss of the engine, nobody does."""
        self._arriving = 0
        self._ending = False
        self._losses: dict[int, int] = {}
        self._generation = ABSENT
        self._rebuild_wanted = False
        self._broken: HoneError | None = None
        self._uncovered = Uncovered()
        self._snapshotting: asyncio.Task[None] | None = None
        self._snapshot_size = 0
        self._bytes = 0
        """In the engine's memory."""
        self._leaving = False
        self._pause: asyncio.Task[None] | None = None
        """Waits for a limit on money to be raised."""
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        """Set while the engine has this model with everything it was told."""
        self._quiet = asyncio.Event()
        """Set while nothing is queued or unanswered."""
        self._quiet.set()
        self._task = asyncio.create_task(self._run(), name=f"lane {model_id}")

    @property
    def waiting(self) -> int:
        """Operations that may run and are not answered yet."""
        return len(self._queue) + len(self._unanswered)

    @property
    def is_busy(self) -> bool:
        return not self._quiet.is_set()

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """While the block writes an operation down, this lane does not end; `UserError` if it is about to."""
        if self._ending:
            raise is_over(self.model_id)
        self._arriving += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._arriving -= 1
            self._check_quiet()

    def offer(self, entry: Entry) -> None:
        """Take an accepted operation; it runs when all lower numbers have."""
        self._quiet.clear()
        if _bytes(self._queue) >= AHEAD_BYTES:
            entry = replace(entry, payload=b"")  # the journal has it
        through = self._gate.offer(entry.seq_id, entry)
        if through is None:
            message = f"seq_id {entry.seq_id} came when the wait for it was over; see HONE_GAP_SECONDS"
            self._answer_soon(entry, failure(message, "user"))
            return
        self._queue.extend(through)
        self._wake.set()
        self._watch_gap()
        self._check_quiet()

    def resume(self, entry: Entry) -> None:
        """Take an operation that an earlier server submitted and did not answer."""
        self._unanswered[entry.seq_id] = entry
        self._quiet.clear()
        self._wake.set()

    async def rebuilt(self) -> None:
        """Wait until the engine has this model with everything it was told so far."""
        self._rebuild_wanted = True
        self._settled.clear()
        self._wake.set()
        await self._settled.wait()

    async def covered(self) -> None:
        """Wait until everything is answered and a snapshot holds it, so that nothing would be repeated."""
        await self._quiet.wait()
        if self._uncovered.operations and self._here():
            self._snapshot()
        if self._snapshotting is not None:
            await self._snapshotting

    def leave(self) -> None:
        """Make room in the engine: as soon as there is no work, or between two parts of it if others wait for room. The
        snapshot brings the model back."""
        self._leaving = True
        self._wake.set()

    async def end(self) -> None:
        """Let the model go: it was unloaded, or its session is over."""
        self._ending = True
        self._give_up()
        await self._quiet.wait()
        await self._persisted()
        await self.stop()
        self._drop()
        await self._shared.journal.cover(self.model_id, self.submitted, None)
        blobs = self._shared.context.blobs
        for name in await blobs.names("snapshots"):
            if name.startswith(f"{self.model_id}@"):
                blobs.discard(f"snapshots/{name}")

    async def _persisted(self) -> None:
        """Wait until the published versions are on disk: without this model, nothing could publish them again."""
        while self._broken is None:
            await self.rebuilt()
            await self.covered()
            if not self._uncovered.published:
                return
            await asyncio.sleep(ROOM_SECONDS)

    async def stop(self) -> None:
        """Drop everything under way; the journal has it."""
        if self._gap is not None:
            self._gap.cancel()
        tasks = [self._task, *self._answering.values()]
        tasks += [task for task in (self._snapshotting, self._pause) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # The loop.

    async def _run(self) -> None:
        keeper = self._shared.keeper
        while True:
            await self._work()
            if self._leaving:
                await self._leave()
                self._wake.set()  # for what came meanwhile
            if not self._has_work():
                continue
            try:
                await keeper.running()
                if not self._here() and self._broken is None:
                    await self._rebuild()
                while self._queue and (self._here() or self._broken is not None):
                    if not self._engine_has_room() or not await self._may_start(self._queue[0]):
                        break
                    if self._queue:
                        await self._submit(await self._read(self._queue.popleft()))
            except Exception as error:
                log.exception("model %s cannot go on", self.model_id)
                self._break(error if isinstance(error, HoneError) else ServerError(f"internal error: {error}"))
            if self._here() or self._broken is not None:
                self._rebuild_wanted = False
                self._settled.set()
            else:
                self._wake.set()  # the engine ended meanwhile: once more

    async def _work(self) -> None:
        """Wait for something to do; a model that waits for long is snapshotted."""
        while True:
            try:
                async with asyncio.timeout(self._shared.idle_seconds if self._uncovered.operations else None):
                    await self._wake.wait()
            except TimeoutError:
                if self._here() and self._broken is None:
                    self._snapshot()
                continue
            self._wake.clear()
            if self._has_work() or self._leaving:
                return

    def _has_work(self) -> bool:
        return bool(self._queue or self._rebuild_wanted or (self._unanswered and not self._here()))

    async def _leave(self) -> None:
        self._leaving = False
        residency = self._shared.residency
        if not self._here():
            residency.gone(self)  # it was in an engine that ended
            return
        if self._broken is not None or not (self._quiet.is_set() or residency.is_wanted):
            return
        # what the engine has is finished; what comes meanwhile stays in the queue
        await asyncio.gather(*self._answering.values(), return_exceptions=True)
        try:
            if self._uncovered.operations and self._here():
                self._snapshot()
            if self._snapshotting is not None:
                await self._snapshotting
        except Exception:
            log.exception("model %s could not be written", self.model_id)
        if not self._here() or self._rebuild_wanted:
            return
        if self._uncovered.operations:
            asyncio.get_running_loop().call_later(ROOM_SECONDS, self.leave)  # it could not be written
        elif not self._queue or residency.is_wanted:
            self._drop()
            self._generation = ABSENT
            log.debug("model %s left the engine; its snapshot brings it back", self.model_id)

    def _drop(self) -> None:
        self._shared.keeper.submit(DropAdapter(self.model_id)).add_done_callback(_look)
        self._shared.residency.gone(self)

    def _engine_has_room(self) -> bool:
        """If not, the lane wakes up with the next answer."""
        return not self._unanswered or _bytes(self._unanswered.values()) < AHEAD_BYTES

    async def _read(self, entry: Entry) -> Entry:
        """With its payload."""
        if entry.payload:
            return entry
        (past,) = await self._shared.journal.history(self.model_id, entry.seq_id - 1, entry.seq_id)
        return past.entry

    async def _may_start(self, entry: Entry) -> bool:
        """Whether no limit on money is reached; the lane wakes up when there is room again."""
        if self._broken is not None or await self._shared.budgets.reached(self.model_id, entry.key_id) is None:
            return True
        if self._pause is None or self._pause.done():
            self._pause = asyncio.create_task(self._wait_for_room(entry))
        return False

    async def _wait_for_room(self, entry: Entry) -> None:
        await self._shared.budgets.room(self.model_id, entry.key_id)
        self._wake.set()

    def _here(self) -> bool:
        """Whether the present engine has this model."""
        return self._generation == self._shared.keeper.generation

    async def _submit(self, entry: Entry) -> None:
        self.submitted = max(self.submitted, entry.seq_id)
        self._unanswered[entry.seq_id] = entry
        if self._broken is not None:
            self._answer_soon(entry, failure_of(self._broken))
            return
        try:
            operation = await HANDLERS[entry.kind].prepare(entry, self._shared.context)
        except Exception as error:
            _log_ours(entry, error)
            self._answer_soon(entry, failure_of(error))
            return
        if not self._here():
            return  # the engine ended meanwhile; the rebuild takes the operation up
        future = self._hand_over(entry, operation)
        spans.submitted(entry.request_id)
        self._see_to(entry, self._see_through(entry, operation, future, self._generation))
        if isinstance(operation, LoadAdapter) or (
            isinstance(operation, OptimStep) and self._shared.policy.due(self._uncovered, self._snapshot_size)
        ):
            self._snapshot()  # after a load at once: a rebuild must not need a checkpoint that may be deleted

    def _hand_over(self, entry: Entry, operation: Operation) -> "asyncio.Future[Any]":
        future = self._shared.keeper.submit(operation)
        self._shared.residency.used(self, self._bytes)
        if isinstance(operation, Publish):
            self._shared.versions.publishing(operation.version, future, self._bytes // 2)
            self._uncovered.published = True
        self._uncovered.add(len(entry.payload))
        return future

    # Answers.

    async def _see_through(
        self, entry: Entry, operation: Operation, future: "asyncio.Future[Any]", generation: int
    ) -> None:
        try:
            result = await future
            if isinstance(result, AdapterInfo):
                self._bytes = BYTES_PER_PARAMETER * result.parameters
            spans.computed(entry.request_id)
            concluded = await HANDLERS[entry.kind].conclude(entry, operation, result, self._shared.context)
        except EngineLostError:
            self._lost(generation)
            self._losses[entry.seq_id] = self._losses.get(entry.seq_id, 0) + 1
            if self._losses[entry.seq_id] >= ATTEMPTS:
                message = f"the engine ended {ATTEMPTS} times while this operation was under way"
                await self._answer(entry, failure(message, "server"))
        except Exception as error:
            _log_ours(entry, error)
            await self._answer(entry, failure_of(error))
        else:
            await self._answer(entry, concluded.outcome, concluded.write, concluded.used, concluded.passed)

    async def _answer(
        self,
        entry: Entry,
        outcome: Outcome,
        write: Write | None = None,
        used: Amounts = NOTHING,
        passed: Passed | None = None,
    ) -> None:
        """Keep the answer and give it out: at once if it could be computed again, else when it is kept."""
        stored = self._shared.journal.finish(entry, outcome, write, used, passed)
        if write is not None or outcome.failed:
            try:
                obsolete = await stored
            except Exception as error:
                _log_ours(entry, error)
                outcome, obsolete = failure_of(error), []
                stored = self._shared.journal.finish(entry, outcome)
            for directory in obsolete:
                self._shared.versions.retire(directory)
        if entry.seq_id == 0 and outcome.failed:
            self._break(UserError(f"model {self.model_id} was never made: {json.loads(outcome.content)['error']}"))
        self._unanswered.pop(entry.seq_id, None)
        self._losses.pop(entry.seq_id, None)
        self._shared.futures.resolve(entry.request_id, outcome, stored)
        await asyncio.wait([stored])  # a snapshot may cover the operation when its answer is kept, not before

    def _answer_soon(self, entry: Entry, outcome: Outcome) -> None:
        self._see_to(entry, self._answer(entry, outcome))

    def _see_to(self, entry: Entry, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._answering[entry.seq_id] = task

        def done(_: "asyncio.Task[None]") -> None:
            self._answering.pop(entry.seq_id, None)
            if self._queue:
                self._wake.set()
            self._check_quiet()

        task.add_done_callback(done)

    def _check_quiet(self) -> None:
        if not (self._queue or self._unanswered or self._answering or self._arriving):
            self._quiet.set()

    # Rebuilding.

    def _lost(self, generation: int) -> None:
        self._shared.keeper.lost(generation)
        self._wake.set()

    async def _rebuild(self) -> None:
        """Bring the model into the present engine: newest snapshot, then every operation after it, in order."""
        shared, generation = self._shared, self._shared.keeper.generation
        under_way = [*self._answering.values(), *([self._snapshotting] if self._snapshotting else [])]
        await asyncio.gather(*under_way, return_exceptions=True)  # what they keep decides what is repeated
        self._bytes = await self._bytes_needed()
        await shared.residency.enter(self, self._bytes)
        covered = await self._load_snapshot(generation)
        if covered is None:
            return
        self._generation, self._uncovered = generation, Uncovered()
        if self.submitted <= covered:
            return
        history = await shared.journal.history(self.model_id, covered, self.submitted)
        log.info("model %s: repeating %d operations", self.model_id, len(history))
        for past in history:
            if not self._here():
                return
            if past.failed is None:
                await self._submit(past.entry)
            elif not past.failed and HANDLERS[past.entry.kind].repeats(past.entry, shared.context):
                await self._repeat(past.entry)

    async def _bytes_needed(self) -> int:
        """In the engine's memory; 0 for what only the engine can tell."""
        context = self._shared.context
        try:
            run = await context.store.run(self.model_id)
            base_model, lora = run.base_model, run.lora
        except NotFoundError:
            first = next(iter((*self._unanswered.values(), *self._queue)), None)
            if first is None or first.kind != "create_model":
                return 0
            try:
                base_model, lora = new_model(first)
                check_lora(lora)
            except HoneError:
                return 0  # its answer will say what is wrong
        if base_model not in context.models:
            return 0
        return BYTES_PER_PARAMETER * context.models[base_model].adapter_parameters(lora)

    async def _load_snapshot(self, generation: int) -> int | None:
        """The number up to which the engine now has the model; None if the engine ended."""
        try:
            run = await self._shared.context.store.run(self.model_id)
        except NotFoundError:
            return -1  # not made yet
        if run.snapshot_directory is None:
            return -1
        context = self._shared.context
        await context.blobs.fetch(run.snapshot_directory)
        directory, share = (
            str(context.blobs.path(run.snapshot_directory)),
            await context.shares.of_session(run.session_id),
        )
        load = LoadAdapter(self.model_id, run.base_model, directory, with_optimizer=True, share=share)
        try:
            await self._shared.keeper.submit(load)
        except EngineLostError:
            self._lost(generation)
            return None
        return run.snapshot_seq

    async def _repeat(self, entry: Entry) -> None:
        """Run an operation for its effect on the model; it was answered before."""
        operation = await HANDLERS[entry.kind].prepare(entry, self._shared.context)
        if not self._here():
            return
        generation = self._generation

        def check(future: "asyncio.Future[Any]") -> None:
            error = None if future.cancelled() else future.exception()
            if isinstance(error, EngineLostError):
                self._lost(generation)
            elif error is not None:
                log.error("%s succeeded before and failed when repeated: %s", entry.request_id, error)

        self._hand_over(entry, operation).add_done_callback(check)

    def _break(self, error: HoneError) -> None:
        """Fail what waits and whatever will come: the model is not to be had."""
        self._broken = error
        self._shared.residency.gone(self)
        waiting = [*self._unanswered.values(), *self._queue]
        self._queue.clear()
        for entry in waiting:
            if entry.seq_id not in self._answering:
                self._answer_soon(entry, failure_of(error))

    # Snapshots.

    def _snapshot(self) -> None:
        """Write the model down as it is after the last submitted operation; one at a time."""
        if self._snapshotting is not None and not self._snapshotting.done():
            return
        relative = f"snapshots/{self.model_id}@{self.submitted}-{secrets.token_hex(4)}"
        directory = self._shared.context.blobs.path(relative)
        future = self._shared.keeper.submit(Snapshot(self.model_id, str(directory)))
        published, self._uncovered = self._uncovered.published, Uncovered()
        self._snapshotting = asyncio.create_task(
            self._cover(future, relative, self.submitted, list(self._answering.values()), self._generation, published)
        )

    async def _cover(
        self,
        future: "asyncio.Future[Any]",
        relative: str,
        covers: int,
        earlier: list[asyncio.Task[None]],
        generation: int,
        published: bool,
    ) -> None:
        blobs = self._shared.context.blobs
        try:
            self._snapshot_size = await future
            await self._keep_unnamed()
            await blobs.keep(relative)
        except EngineLostError:
            self._lost(generation)
            return
        except HoneError as error:
            log.error("no snapshot of model %s: %s", self.model_id, error)
            self._uncovered.add(0)
            self._uncovered.published |= published
            blobs.discard(relative)  # if it was written and only a version before it could not be kept
            return
        await asyncio.gather(*earlier, return_exceptions=True)  # answers must be kept before their requests go
        if any(seq <= covers for seq in self._unanswered):
            blobs.discard(relative)
            return
        previous = await self._shared.journal.cover(self.model_id, covers, relative)
        if previous is not None:
            blobs.discard(previous)

    async def _keep_unnamed(self) -> None:
        """Before a snapshot counts, the versions that would not be published again after it are safe."""
        blobs = self._shared.context.blobs
        if blobs.remote:
            folder = f"checkpoints/{self.model_id}/sampler_weights"
            for directory in blobs.path(folder).glob(f"{UNNAMED}@*"):
                try:
                    await blobs.keep_once(f"{folder}/{directory.name}")
                except HoneError:
                    if directory.exists():
                        raise  # else its session ended meanwhile

    # Gaps.

    def _watch_gap(self) -> None:
        if self._gap is not None:
            self._gap.cancel()
            self._gap = None
        if self._gate:
            self._gap = asyncio.get_running_loop().call_later(self._shared.gap_seconds, self._give_up)

    def _give_up(self) -> None:
        missing = ", ".join(map(str, self._gate.missing(5)))
        for entry in self._gate.give_up():
            message = (
                f"seq_id {entry.seq_id} came, but {missing} before it did not within {self._shared.gap_seconds:g} s"
            )
            self._answer_soon(entry, failure(message, "user"))


def _bytes(entries: Iterable[Entry]) -> int:
    return sum(len(entry.payload) for entry in entries)


def is_over(model_id: str) -> UserError:
    return UserError(
        f"model_id {model_id} takes no more work: it was unloaded, or its session is finished; "
        "make a training client from one of its checkpoints"
    )


def _log_ours(entry: Entry, error: Exception) -> None:
    """What is the caller's mistake is in the answer; what is ours is also in the log."""
    if not isinstance(error, UserError):
        log.error("%s (%s) failed", entry.request_id, entry.kind, exc_info=error)


def _look(future: "asyncio.Future[Any]") -> None:
    """Nobody waits for this one; an engine that ended has forgotten the adapter anyway."""
    if not future.cancelled():
        future.exception()
