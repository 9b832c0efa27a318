"""The service behind the routes: its parts, put together once, with a start and a stop."""

import asyncio
import logging
import os
import sys
from dataclasses import asdict

from sqlalchemy import Connection

from hone.engine.contract import Engine, base_model_bytes
from hone.identity import accounts
from hone.identity.prices import load_prices
from hone.identity.tokens import Signer
from hone.memory import memory_shares, resident_bytes
from hone.paths import DataDirectory
from hone.server import custom_losses, unloading
from hone.server.access import Access
from hone.server.auth import Keys
from hone.server.bodies import BodyRoom
from hone.server.budgets import Budgets
from hone.server.clock import SteadyClock
from hone.server.copies import Copies
from hone.server.expiry import sweep
from hone.server.futures import Futures
from hone.server.hub import Hub
from hone.server.inference.generation import Generation
from hone.server.jobs import Jobs
from hone.server.journal import Journal
from hone.server.lanes.shared import Shared
from hone.server.operations import Context
from hone.server.recovery import EngineKeeper
from hone.server.residency import Residency
from hone.server.samples import Samples
from hone.server.sessions import Sessions
from hone.server.shares import Shares
from hone.server.snapshots import SnapshotPolicy
from hone.server.store import Store
from hone.server.usage import measure, meter_storage
from hone.server.versions import Versions
from hone.server.worker import Worker, remove_orphans
from hone.settings import Settings, project_priorities, project_weights
from hone.storage.blobs import Blobs
from hone.storage.database import Database

log = logging.getLogger(__name__)

LOADED_VERSIONS = 64
"""At most, unless HONE_LOADED_VERSIONS says otherwise: reading one takes less than sampling from it."""
PRUNE_SECONDS = 600.0
"""How often old results are looked for."""


class Service:
    """Everything belongs to the event loop that calls `start`."""

    def __init__(self, engine: Engine, data: DataDirectory, settings: Settings) -> None:
        self.settings = settings
        self.data = data
        url = settings.database_url or f"sqlite:///{data.database}"
        self.database = Database(url, settings.sqlite_synchronous, sole=True)
        self.clock = SteadyClock()
        self.room = BodyRoom(settings.max_bodies_bytes)
        self.blobs = Blobs(data.root, settings.blobs_url)
        self.store = Store(self.database)
        self.journal = Journal(self.database)
        self.signer = Signer(data.token_secret)
        self.keys = Keys(self.database, self.signer, settings.jwt_auth)
        self.access = Access(self.database, self.keys.forget)
        self.shares = Shares(self.access, self.keys, project_weights(settings), project_priorities(settings))
        self.prices = load_prices(settings.prices)
        self.budgets = Budgets(self.database, self.keys, self.access, self.prices)
        self.futures = Futures(self.journal, settings.result_grace_seconds)
        self.keeper = EngineKeeper(engine)
        self.models = engine.models
        self.worker = Worker()
        self.memory = memory_shares(settings.memory_bytes, base_model_bytes(engine.models.values()))
        self.versions = Versions(
            self.keeper,
            self.blobs,
            settings.loaded_versions or LOADED_VERSIONS,
            sys.maxsize if settings.loaded_versions else self.memory.versions,
            self.worker.rebuilt,
        )
        self.worker.shared = Shared(
            context=Context(self.models, self.store, self.journal, self.blobs, self.shares),
            journal=self.journal,
            futures=self.futures,
            keeper=self.keeper,
            versions=self.versions,
            budgets=self.budgets,
            policy=SnapshotPolicy(settings.snapshot_operations, settings.snapshot_bytes, settings.snapshot_seconds),
            residency=Residency(settings.adapter_bytes or self.memory.adapters),
            gap_seconds=settings.gap_seconds,
            idle_seconds=settings.idle_seconds,
        )
        self.samples = Samples(
            self.store,
            self.journal,
            self.futures,
            self.keeper,
            self.versions,
            self.budgets,
            self.shares,
            settings.max_waiting_samples,
        )
        self.jobs = Jobs(
            self.journal,
            self.futures,
            {
                custom_losses.KIND: custom_losses.CustomLosses(self.keeper).run,
                unloading.KIND: unloading.Unloading(self.worker).run,
            },
        )
        self.sessions = Sessions(self.store, self.worker, self.samples, self.versions)
        self.copies = Copies(self.store, self.blobs, self.worker, self.sessions)
        self.hub = Hub(self.models)
        self.generation = Generation(
            self.models, self.database, self.store, self.keeper, self.versions, self.budgets, self.shares
        )
        self._pruning: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take up what an earlier server left: operations without an answer, sessions that were ending."""
        if self.settings.api_key:
            key = self.settings.api_key
            await self.database.run(lambda connection: accounts.set_server_key(connection, key))
        await remove_orphans(self.blobs, await self.store.snapshot_directories())
        unfinished = await self.journal.unfinished()
        alone = self.jobs.work
        await self.worker.resume([entry for entry in unfinished if not entry.samples and entry.kind not in alone])
        for entry in unfinished:
            if entry.kind in alone:
                self.jobs.start(entry)
            elif entry.samples:
                self.samples.start(entry)
        for session_id in await self.store.sessions_to_end():
            self.sessions.end_soon(session_id)
        self._pruning = asyncio.create_task(self._prune(), name="prune")
        self._sweeping = asyncio.create_task(sweep(self.store, self.versions, self.blobs, self.clock), name="expiry")

    async def stop(self) -> None:
        """Keep what can be kept in short time; the journal has the rest for the next start."""
        self.futures.release()
        for task in (self._pruning, self._sweeping):
            if task is not None:
                task.cancel()
        await self.sessions.stop()
        await self.samples.stop()
        await self.jobs.stop()
        await self.worker.stop()
        await self.keeper.close()
        await self.blobs.close()
        await asyncio.to_thread(self.database.close)

    def memory_report(self) -> dict[str, dict[str, int]]:
        """Bytes: what may be `held` and is, by use. Caches and passes take theirs as they need it; it is in what the
        engine holds in all."""
        residency = self.worker.shared.residency
        limits = asdict(self.memory) | {"adapters": residency.capacity}
        if self.settings.cache_bytes is not None:
            limits["cache"] = self.settings.cache_bytes * len(self.models)
        return {
            "limits": limits,
            "held": {
                "adapters": residency.bytes,
                "versions": self.versions.bytes,
                "server": resident_bytes(os.getpid()),
                "engine": resident_bytes(self.keeper.engine.pid),
            },
        }

    async def meter_storage(self) -> None:
        """Count what the checkpoints took up until now."""

        def work(connection: Connection) -> None:
            measure(connection, self.data)
            meter_storage(connection, self.clock.now())

        await self.database.run(work)

    async def _prune(self) -> None:
        while True:
            try:
                await self.journal.prune(self.clock.now() - self.settings.result_retention_hours * 3600)
                await self.sessions.finish_silent(self.settings.silent_session_hours * 3600)
                await self.meter_storage()
            except Exception:
                log.exception("housekeeping failed; trying again later")
            await asyncio.sleep(PRUNE_SECONDS)
