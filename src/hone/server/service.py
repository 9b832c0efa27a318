"""The service behind the routes: its parts, put together once, with a start and a stop."""

import asyncio
import logging
import time

from hone.engine.contract import Engine
from hone.paths import DataDirectory
from hone.server.futures import Futures
from hone.server.journal import Journal
from hone.server.lane import Shared
from hone.server.operations import Context
from hone.server.recovery import EngineKeeper
from hone.server.samples import Samples
from hone.server.sessions import Sessions
from hone.server.snapshots import SnapshotPolicy
from hone.server.store import Store
from hone.server.versions import Versions
from hone.server.worker import Worker, remove_orphans
from hone.settings import Settings
from hone.storage.database import Database

log = logging.getLogger(__name__)

PRUNE_SECONDS = 600.0
"""How often old results are looked for."""


class Service:
    """Everything belongs to the event loop that calls `start`."""

    def __init__(self, engine: Engine, data: DataDirectory, settings: Settings) -> None:
        self.settings = settings
        self.data = data
        self.database = Database(settings.database_url or f"sqlite:///{data.database}", settings.sqlite_synchronous)
        self.store = Store(self.database)
        self.journal = Journal(self.database)
        self.futures = Futures(self.journal, settings.result_grace_seconds)
        self.keeper = EngineKeeper(engine)
        self.models = engine.models
        self.worker = Worker()
        self.versions = Versions(self.keeper, data, settings.loaded_versions, self.worker.rebuilt)
        self.worker.shared = Shared(
            context=Context(self.models, self.store, self.journal, data),
            journal=self.journal,
            futures=self.futures,
            keeper=self.keeper,
            versions=self.versions,
            policy=SnapshotPolicy(settings.snapshot_operations, settings.snapshot_bytes, settings.snapshot_seconds),
            gap_seconds=settings.gap_seconds,
            idle_seconds=settings.idle_seconds,
        )
        self.samples = Samples(self.store, self.journal, self.futures, self.keeper, self.versions, {}, {})
        self.sessions = Sessions(self.store, self.worker, self.samples, self.versions)
        self._pruning: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take up what an earlier server left: operations without an answer, sessions that were ending."""
        remove_orphans(self.data, await self.store.snapshot_directories())
        unfinished = await self.journal.unfinished()
        await self.worker.resume([entry for entry in unfinished if not entry.samples])
        for entry in unfinished:
            if entry.samples:
                self.samples.start(entry)
        for session_id in await self.store.sessions_to_end():
            self.sessions.end_soon(session_id)
        self._pruning = asyncio.create_task(self._prune(), name="prune")

    async def stop(self) -> None:
        """Keep what can be kept in short time; the journal has the rest for the next start."""
        self.futures.release()
        if self._pruning is not None:
            self._pruning.cancel()
        await self.sessions.stop()
        await self.samples.stop()
        await self.worker.stop()
        await self.keeper.close()
        await asyncio.to_thread(self.database.close)

    async def _prune(self) -> None:
        while True:
            try:
                await self.journal.prune(time.time() - self.settings.result_retention_hours * 3600)
            except Exception:
                log.exception("old results could not be pruned; trying again later")
            await asyncio.sleep(PRUNE_SECONDS)
