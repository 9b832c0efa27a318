"""One model's snapshots: written one at a time, each covers the operations before it, which a crash then repeats not.

When one is due is `snapshots.py`'s business.
"""

import asyncio
import logging
import secrets
from typing import Any

from hone.engine.contract import Snapshot
from hone.errors import EngineLostError, HoneError
from hone.server.lanes.answers import Answers
from hone.server.lanes.presence import Presence
from hone.server.lanes.shared import Shared
from hone.server.operations.save_weights_for_sampler import UNNAMED
from hone.server.snapshots import Uncovered

log = logging.getLogger(__name__)


class Covering:
    def __init__(self, model_id: str, shared: Shared, presence: Presence, answers: Answers) -> None:
        self._model_id, self._shared, self._presence, self._answers = model_id, shared, presence, answers
        self.uncovered = Uncovered()
        self.task: asyncio.Task[None] | None = None
        """That writes the newest one."""
        self._size = 0

    @property
    def is_due(self) -> bool:
        return self._shared.policy.due(self.uncovered, self._size)

    def begin(self, submitted: int) -> None:
        """Write the model down as it is after the operation `submitted`, the last that the engine was handed; one at a
        time."""
        if self.task is not None and not self.task.done():
            return
        relative = f"snapshots/{self._model_id}@{submitted}-{secrets.token_hex(4)}"
        directory = self._shared.context.blobs.path(relative)
        future = self._shared.keeper.submit(Snapshot(self._model_id, str(directory)))
        published, self.uncovered = self.uncovered.published, Uncovered()
        self.task = asyncio.create_task(
            self._cover(future, relative, submitted, self._answers.tasks, self._presence.generation, published)
        )

    async def everything(self, submitted: int) -> None:
        """Wait until a snapshot holds all that can be covered."""
        if self.uncovered.operations and self._presence.is_here():
            self.begin(submitted)
        if self.task is not None:
            await self.task

    async def _cover(
        self,
        future: "asyncio.Future[Any]",
        relative: str,
        covers: int,
        earlier: list["asyncio.Task[None]"],
        generation: int,
        published: bool,
    ) -> None:
        blobs = self._shared.context.blobs
        try:
            self._size = await future
            await self._keep_unnamed()
            await blobs.keep(relative)
        except EngineLostError:
            self._presence.lost(generation)
            return
        except HoneError as error:
            log.error("no snapshot of model %s: %s", self._model_id, error)
            self.uncovered.add(0)
            self.uncovered.published |= published
            blobs.discard(relative)  # if it was written and only a version before it could not be kept
            return
        await asyncio.gather(*earlier, return_exceptions=True)  # answers must be kept before their requests go
        if any(seq <= covers for seq in self._answers.unanswered):
            blobs.discard(relative)
            return
        previous = await self._shared.journal.cover(self._model_id, covers, relative)
        if previous is not None:
            blobs.discard(previous)

    async def _keep_unnamed(self) -> None:
        """Before a snapshot counts, the versions that would not be published again after it are safe."""
        blobs = self._shared.context.blobs
        if blobs.remote:
            folder = f"checkpoints/{self._model_id}/sampler_weights"
            for directory in blobs.path(folder).glob(f"{UNNAMED}@*"):
                try:
                    await blobs.keep_once(f"{folder}/{directory.name}")
                except HoneError:
                    if directory.exists():
                        raise  # else its session ended meanwhile
