"""Operations of one model that the engine has, seen through until their answers are kept and given out.

They are seen through beside the lane's loop: operations pipeline.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from hone.engine.contract import AdapterInfo, Operation
from hone.errors import EngineLostError, HoneError, UserError
from hone.observe import spans
from hone.protocol.futures import Outcome, failure, failure_of
from hone.server.journal import Entry, Passed, Write
from hone.server.lanes.presence import Presence
from hone.server.lanes.shared import Shared, log_ours
from hone.server.operations import HANDLERS
from hone.server.recovery import ATTEMPTS
from hone.server.residency import BYTES_PER_PARAMETER
from hone.server.usage import NOTHING, Amounts

log = logging.getLogger(__name__)


class Answers:
    def __init__(
        self,
        model_id: str,
        shared: Shared,
        presence: Presence,
        done: Callable[[], None],
        never_made: Callable[[HoneError], None],
    ) -> None:
        """`done` is called after each answer, `never_made` when the operation failed that makes the model."""
        self._model_id, self._shared, self._presence = model_id, shared, presence
        self._done, self._never_made = done, never_made
        self.unanswered: dict[int, Entry] = {}
        self._answering: dict[int, asyncio.Task[None]] = {}
        """The unanswered operations that somebody sees through. After a loss of the engine, nobody does."""
        self._losses: dict[int, int] = {}

    def __bool__(self) -> bool:
        """Whether any operation is under way."""
        return bool(self.unanswered or self._answering)

    @property
    def tasks(self) -> list["asyncio.Task[None]"]:
        return list(self._answering.values())

    def is_seen_to(self, entry: Entry) -> bool:
        return entry.seq_id in self._answering

    def see_through(self, entry: Entry, operation: Operation, future: "asyncio.Future[Any]") -> None:
        """Give out what the engine answers to an operation that it was just handed."""
        self._see_to(entry, self._see(entry, operation, future, self._presence.generation))

    def soon(self, entry: Entry, outcome: Outcome) -> None:
        """Answer without the engine."""
        self._see_to(entry, self._answer(entry, outcome))

    def fail(self, entries: Iterable[Entry], error: HoneError) -> None:
        """Answer all that nobody sees through."""
        for entry in entries:
            if not self.is_seen_to(entry):
                self.soon(entry, failure_of(error))

    async def _see(self, entry: Entry, operation: Operation, future: "asyncio.Future[Any]", generation: int) -> None:
        try:
            result = await future
            if isinstance(result, AdapterInfo):
                self._presence.bytes = BYTES_PER_PARAMETER * result.parameters
            spans.computed(entry.request_id)
            concluded = await HANDLERS[entry.kind].conclude(entry, operation, result, self._shared.context)
        except EngineLostError:
            self._presence.lost(generation)
            self._losses[entry.seq_id] = self._losses.get(entry.seq_id, 0) + 1
            if self._losses[entry.seq_id] >= ATTEMPTS:
                message = f"the engine ended {ATTEMPTS} times while this operation was under way"
                await self._answer(entry, failure(message, "server"))
        except Exception as error:
            log_ours(log, entry, error)
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
                log_ours(log, entry, error)
                outcome, obsolete = failure_of(error), []
                stored = self._shared.journal.finish(entry, outcome)
            for directory in obsolete:
                self._shared.versions.retire(directory)
        if entry.seq_id == 0 and outcome.failed:
            why = json.loads(outcome.content)["error"]
            self._never_made(UserError(f"model {self._model_id} was never made: {why}"))
        self.unanswered.pop(entry.seq_id, None)
        self._losses.pop(entry.seq_id, None)
        self._shared.futures.resolve(entry.request_id, outcome, stored)
        await asyncio.wait([stored])  # a snapshot may cover the operation when its answer is kept, not before

    def _see_to(self, entry: Entry, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._answering[entry.seq_id] = task

        def done(_: "asyncio.Task[None]") -> None:
            self._answering.pop(entry.seq_id, None)
            self._done()

        task.add_done_callback(done)
