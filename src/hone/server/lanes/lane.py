"""Runs the operations of one model in order, and rebuilds the model when the engine does not have it.

The lane's task is the only one that submits for the model, so order is the order of the loop in `_run`: wait for work,
wait for an engine, rebuild if it is another one, submit.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from hone.engine.contract import DropAdapter, LoadAdapter, Operation, OptimStep, Publish
from hone.errors import EngineLostError, HoneError, ServerError
from hone.observe import spans
from hone.protocol.futures import failure, failure_of
from hone.server.journal import ROOM_SECONDS, Entry
from hone.server.lanes.answers import Answers
from hone.server.lanes.bringing import bytes_needed, load_snapshot
from hone.server.lanes.covering import Covering
from hone.server.lanes.presence import Presence
from hone.server.lanes.shared import Shared, is_over, log_ours
from hone.server.operations import HANDLERS
from hone.server.ordering import SequenceGate
from hone.server.snapshots import Uncovered

log = logging.getLogger(__name__)

AHEAD_BYTES = 64 << 20
"""Of a model's requests that the engine has at once, and that wait here in memory; what comes on top waits in the
journal. One is always let through."""


class Lane:
    def __init__(self, model_id: str, shared: Shared, submitted: int) -> None:
        """`submitted` is the number of the last operation that went to an engine, now or in an earlier life."""
        self.model_id = model_id
        self._shared = shared
        self._gate: SequenceGate[Entry] = SequenceGate(submitted + 1)
        self._gap: asyncio.TimerHandle | None = None
        self._queue: deque[Entry] = deque()
        self.submitted = submitted
        self._wake = asyncio.Event()
        self._presence = Presence(shared.keeper, self._wake)
        self._answers = Answers(model_id, shared, self._presence, self._answered, self._break)
        self._covering = Covering(model_id, shared, self._presence, self._answers)
        self._arriving = 0
        self._ending = False
        self._rebuild_wanted = False
        self._broken: HoneError | None = None
        self._leaving = False
        self._pause: asyncio.Task[None] | None = None
        """Waits for a limit on money to be raised."""
        self._settled = asyncio.Event()
        """Set while the engine has this model with everything it was told."""
        self._quiet = asyncio.Event()
        """Set while nothing is queued or unanswered."""
        self._quiet.set()
        self._task = asyncio.create_task(self._run(), name=f"lane {model_id}")

    @property
    def waiting(self) -> int:
        """Operations that may run and are not answered yet."""
        return len(self._queue) + len(self._answers.unanswered)

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
            self._answers.soon(entry, failure(message, "user"))
            return
        self._queue.extend(through)
        self._wake.set()
        self._watch_gap()
        self._check_quiet()

    def resume(self, entry: Entry) -> None:
        """Take an operation that an earlier server submitted and did not answer."""
        self._answers.unanswered[entry.seq_id] = entry
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
        await self._covering.everything(self.submitted)

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
            if not self._covering.uncovered.published:
                return
            await asyncio.sleep(ROOM_SECONDS)

    async def stop(self) -> None:
        """Drop everything under way; the journal has it."""
        if self._gap is not None:
            self._gap.cancel()
        tasks = [self._task, *self._answers.tasks]
        tasks += [task for task in (self._covering.task, self._pause) if task is not None]
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
                if not self._presence.is_here() and self._broken is None:
                    await self._rebuild()
                while self._queue and (self._presence.is_here() or self._broken is not None):
                    if not self._engine_has_room() or not await self._may_start(self._queue[0]):
                        break
                    if self._queue:
                        await self._submit(await self._read(self._queue.popleft()))
            except Exception as error:
                log.exception("model %s cannot go on", self.model_id)
                self._break(error if isinstance(error, HoneError) else ServerError(f"internal error: {error}"))
            if self._presence.is_here() or self._broken is not None:
                self._rebuild_wanted = False
                self._settled.set()
            else:
                self._wake.set()  # the engine ended meanwhile: once more

    async def _work(self) -> None:
        """Wait for something to do; a model that waits for long is snapshotted."""
        while True:
            try:
                async with asyncio.timeout(self._shared.idle_seconds if self._covering.uncovered.operations else None):
                    await self._wake.wait()
            except TimeoutError:
                if self._presence.is_here() and self._broken is None:
                    self._covering.begin(self.submitted)
                continue
            self._wake.clear()
            if self._has_work() or self._leaving:
                return

    def _has_work(self) -> bool:
        return bool(self._queue or self._rebuild_wanted or (self._answers.unanswered and not self._presence.is_here()))

    async def _leave(self) -> None:
        self._leaving = False
        residency = self._shared.residency
        if not self._presence.is_here():
            residency.gone(self)  # it was in an engine that ended
            return
        if self._broken is not None or not (self._quiet.is_set() or residency.is_wanted):
            return
        # what the engine has is finished; what comes meanwhile stays in the queue
        await asyncio.gather(*self._answers.tasks, return_exceptions=True)
        try:
            await self._covering.everything(self.submitted)
        except Exception:
            log.exception("model %s could not be written", self.model_id)
        if not self._presence.is_here() or self._rebuild_wanted:
            return
        if self._covering.uncovered.operations:
            asyncio.get_running_loop().call_later(ROOM_SECONDS, self.leave)  # it could not be written
        elif not self._queue or residency.is_wanted:
            self._drop()
            self._presence.gone()
            log.debug("model %s left the engine; its snapshot brings it back", self.model_id)

    def _drop(self) -> None:
        self._shared.keeper.submit(DropAdapter(self.model_id)).add_done_callback(_look)
        self._shared.residency.gone(self)

    def _engine_has_room(self) -> bool:
        """If not, the lane wakes up with the next answer."""
        unanswered = self._answers.unanswered
        return not unanswered or _bytes(unanswered.values()) < AHEAD_BYTES

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

    async def _submit(self, entry: Entry) -> None:
        self.submitted = max(self.submitted, entry.seq_id)
        self._answers.unanswered[entry.seq_id] = entry
        if self._broken is not None:
            self._answers.soon(entry, failure_of(self._broken))
            return
        try:
            operation = await HANDLERS[entry.kind].prepare(entry, self._shared.context)
        except Exception as error:
            log_ours(log, entry, error)
            self._answers.soon(entry, failure_of(error))
            return
        if not self._presence.is_here():
            return  # the engine ended meanwhile; the rebuild takes the operation up
        future = self._hand_over(entry, operation)
        spans.submitted(entry.request_id)
        self._answers.see_through(entry, operation, future)
        if isinstance(operation, LoadAdapter) or (isinstance(operation, OptimStep) and self._covering.is_due):
            self._covering.begin(
                self.submitted
            )  # after a load at once: a rebuild must not need a checkpoint that may be deleted

    def _hand_over(self, entry: Entry, operation: Operation) -> "asyncio.Future[Any]":
        future = self._shared.keeper.submit(operation)
        self._shared.residency.used(self, self._presence.bytes)
        if isinstance(operation, Publish):
            self._shared.versions.publishing(operation.version, future, self._presence.bytes // 2)
            self._covering.uncovered.published = True
        self._covering.uncovered.add(len(entry.payload))
        return future

    def _answered(self) -> None:
        if self._queue:
            self._wake.set()
        self._check_quiet()

    def _check_quiet(self) -> None:
        if not (self._queue or self._answers or self._arriving):
            self._quiet.set()

    # Rebuilding.

    async def _rebuild(self) -> None:
        """Bring the model into the present engine: newest snapshot, then every operation after it, in order."""
        shared, generation = self._shared, self._shared.keeper.generation
        under_way = [*self._answers.tasks, *([self._covering.task] if self._covering.task else [])]
        await asyncio.gather(*under_way, return_exceptions=True)  # what they keep decides what is repeated
        first = next(iter((*self._answers.unanswered.values(), *self._queue)), None)
        self._presence.bytes = await bytes_needed(self.model_id, shared, first)
        await shared.residency.enter(self, self._presence.bytes)
        covered = await load_snapshot(self.model_id, shared, self._presence, generation)
        if covered is None:
            return
        self._presence.generation, self._covering.uncovered = generation, Uncovered()
        if self.submitted <= covered:
            return
        history = await shared.journal.history(self.model_id, covered, self.submitted)
        log.info("model %s: repeating %d operations", self.model_id, len(history))
        for past in history:
            if not self._presence.is_here():
                return
            if past.failed is None:
                await self._submit(past.entry)
            elif not past.failed and HANDLERS[past.entry.kind].repeats(past.entry, shared.context):
                await self._repeat(past.entry)

    async def _repeat(self, entry: Entry) -> None:
        """Run an operation for its effect on the model; it was answered before."""
        operation = await HANDLERS[entry.kind].prepare(entry, self._shared.context)
        if not self._presence.is_here():
            return
        generation = self._presence.generation

        def check(future: "asyncio.Future[Any]") -> None:
            error = None if future.cancelled() else future.exception()
            if isinstance(error, EngineLostError):
                self._presence.lost(generation)
            elif error is not None:
                log.error("%s succeeded before and failed when repeated: %s", entry.request_id, error)

        self._hand_over(entry, operation).add_done_callback(check)

    def _break(self, error: HoneError) -> None:
        """Fail what waits and whatever will come: the model is not to be had."""
        self._broken = error
        self._shared.residency.gone(self)
        waiting = [*self._answers.unanswered.values(), *self._queue]
        self._queue.clear()
        self._answers.fail(waiting, error)

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
            self._answers.soon(entry, failure(message, "user"))


def _bytes(entries: Iterable[Entry]) -> int:
    return sum(len(entry.payload) for entry in entries)


def _look(future: "asyncio.Future[Any]") -> None:
    """Nobody waits for this one; an engine that ended has forgotten the adapter anyway."""
    if not future.cancelled():
        future.exception()
