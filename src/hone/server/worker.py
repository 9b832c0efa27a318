"""All models at work: one lane each, opened when an operation comes for it or an earlier server left some behind."""

import asyncio
import re
from itertools import groupby

from hone.errors import NotFoundError, UserError
from hone.observe import spans
from hone.server.journal import Entry
from hone.server.lanes.lane import Lane
from hone.server.lanes.shared import Shared, is_over
from hone.storage.atomic import remove_tree
from hone.storage.blobs import Blobs

_UNNAMED = re.compile(r"\.unnamed@\d+")
"""The only directories of finished checkpoints whose names start with a dot."""

STOP_SECONDS = 5.0
"""How long a stopping server waits for running operations; what is not answered then goes on after the next start."""


class Worker:
    def __init__(self) -> None:
        self._lanes: dict[str, Lane] = {}
        self._opening = asyncio.Lock()
        self.shared: Shared

    async def submit(self, entry: Entry) -> str:
        """Accept an operation of a model; returns its request id, the same for the same submission."""
        lane = await self._lane(entry.lane, is_new=entry.seq_id == 0)
        return await asyncio.shield(self._accept(lane, entry))

    async def _accept(self, lane: Lane, entry: Entry) -> str:
        with lane.arriving():
            if await self.shared.journal.accept(entry):
                spans.accepted(entry.request_id, entry.kind)
                self.shared.futures.expect(entry.request_id)
                lane.offer(entry)
        return entry.request_id

    async def resume(self, entries: list[Entry]) -> None:
        """Take up what an earlier server accepted and did not answer."""
        for model_id, of_model in groupby(entries, key=lambda entry: entry.lane):
            lane = await self._lane(model_id, is_new=True)
            for entry in of_model:
                if entry.seq_id <= lane.submitted:
                    lane.resume(entry)
                else:
                    lane.offer(entry)

    async def rebuilt(self, model_id: str) -> None:
        """Wait until the engine has this model, and every version that the model publishes on the way there."""
        try:
            lane = await self._lane(model_id, is_new=False)
        except NotFoundError:
            return
        await lane.rebuilt()

    @property
    def waiting(self) -> int:
        """Accepted operations of all models that are not answered yet."""
        return sum(lane.waiting for lane in self._lanes.values())

    async def written(self, model_id: str) -> None:
        """Wait until what this model published is on disk."""
        lane = await self._lane(model_id, is_new=False)
        await lane.rebuilt()
        await lane.covered()

    async def end_session(self, session_id: str) -> None:
        """Finish the session's models and drop them, with everything that only recovery would need."""
        for model_id in await self.shared.context.store.trained_run_ids(session_id):
            await self._end(model_id)

    async def unload(self, model_id: str) -> None:
        """Finish one model and drop it; what it saved stays. Fine if that has happened."""
        if not (await self.shared.context.store.run(model_id)).is_over:
            await self.written(model_id)
            await self._end(model_id)

    async def _end(self, model_id: str) -> None:
        lane = await self._lane(model_id, is_new=False)
        await lane.end()
        self._lanes.pop(model_id, None)

    async def stop(self) -> None:
        """Snapshot what can be in short time, then stop; the journal has the rest."""
        lanes = list(self._lanes.values())
        covering = [asyncio.create_task(lane.covered()) for lane in lanes]
        if covering:
            _, late = await asyncio.wait(covering, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
        for lane in lanes:
            await lane.stop()

    async def _lane(self, model_id: str, is_new: bool) -> Lane:
        if model_id in self._lanes:
            return self._lanes[model_id]
        async with self._opening:
            if model_id not in self._lanes:
                snapshot_seq = -1
                try:
                    run = await self.shared.context.store.run(model_id)
                    if run.copied_from is not None:
                        raise UserError(
                            f"training run {model_id} is a copy of {run.copied_from} and cannot be trained; "
                            "make a training client from the copy's path"
                        )
                    if run.is_over:
                        raise is_over(model_id)
                    snapshot_seq = run.snapshot_seq
                except NotFoundError:
                    if not is_new:
                        raise NotFoundError(f"model_id {model_id!r} is unknown on this server") from None
                answered = await self.shared.journal.last_finished(model_id)
                self._lanes[model_id] = Lane(model_id, self.shared, max(snapshot_seq, answered))
        return self._lanes[model_id]


async def remove_orphans(blobs: Blobs, wanted: set[str]) -> None:
    """Remove what a server that was killed left half-way: drafts of checkpoints, and snapshots that no model names; in
    an object store, which may be shared with other servers, only those of our models."""
    ours = {name.split("@")[0] for name in wanted}
    for found in await blobs.names("snapshots"):
        name = f"snapshots/{found}"
        if name not in wanted and (name.split("@")[0] in ours or blobs.here(name)):
            await blobs.remove(name)
    for draft in blobs.path("checkpoints").glob("*/*/.*"):
        if not _UNNAMED.fullmatch(draft.name):
            remove_tree(draft)
