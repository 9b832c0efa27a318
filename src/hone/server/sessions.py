"""Sessions: what a client opens first and what everything it makes belongs to."""

import asyncio
import logging
import time
import uuid

from hone.errors import UserError
from hone.protocol import requests
from hone.server.operations.save_weights_for_sampler import UNNAMED
from hone.server.samples import Samples
from hone.server.store import Store
from hone.server.versions import Versions
from hone.server.worker import Worker

log = logging.getLogger(__name__)


class SessionFinishedError(UserError):
    """The session takes no more work."""


class Sessions:
    def __init__(self, store: Store, worker: Worker, samples: Samples, versions: Versions) -> None:
        self._store = store
        self._worker = worker
        self._samples = samples
        self._versions = versions
        self._finished: dict[str, bool] = {}
        self._heard: dict[str, float] = {}
        """When each open session last asked for anything, on the monotonic clock."""
        self._ending: set[asyncio.Task[None]] = set()

    async def create(
        self, body: requests.CreateSession, project_id: str, key_id: int, idempotency_key: str | None
    ) -> str:
        return await self._store.insert_session(
            {
                "id": str(uuid.uuid4()),
                "created_at": time.time(),
                "tags": body.tags,
                "user_metadata": body.user_metadata,
                "display_name": body.display_name,
                "project_id": project_id,
                "key_id": key_id,
                "sdk_version": body.sdk_version,
                "idempotency_key": f"{key_id}:{idempotency_key}" if idempotency_key else None,
            }
        )

    async def check_open(self, session_id: str) -> None:
        """Raise unless the session exists and takes work. Whoever asks is a sign of life."""
        if session_id not in self._finished:
            self._finished[session_id] = await self._store.session_finished(session_id)
        if self._finished[session_id]:
            raise SessionFinishedError(f"session {session_id} is finished and takes no more work; create a new client")
        self._heard[session_id] = time.monotonic()

    async def finish_silent(self, seconds: float) -> None:
        """Finish the sessions that nothing was heard from for so long: their clients are gone without a word, and
        their checkpoints are what stays. The wait starts anew with the server."""
        now = time.monotonic()
        for session_id in await self._store.open_sessions():
            if now - self._heard.setdefault(session_id, now) >= seconds:
                log.info("session %s was silent for %.0f s and is finished", session_id, seconds)
                await self.finish(session_id, "interrupted", f"nothing was heard from the client for {seconds:.0f} s")
                self._heard.pop(session_id, None)

    async def finish(self, session_id: str, reason: str, detail: str | None) -> None:
        """Take no more work; what was accepted is completed, then the session's models are let go."""
        try:
            await self.check_open(session_id)
        except SessionFinishedError:
            return
        await self._store.finish_session(session_id, reason, detail)
        self._finished[session_id] = True
        self.end_soon(session_id)

    def end_soon(self, session_id: str) -> None:
        task = asyncio.create_task(self._end(session_id), name=f"end of session {session_id}")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end(self, session_id: str) -> None:
        try:
            await self._worker.end_session(session_id)
            await self._samples.finish(session_id)
            for version in await self._store.ephemeral_versions(session_id):
                self._versions.drop(version)
                await self._worker.shared.context.blobs.remove(version)
            await self._remove_unnamed(session_id)
        except Exception:
            log.exception("session %s could not be cleared away", session_id)

    async def _remove_unnamed(self, session_id: str) -> None:
        """What no sampler names either: inflight weights that newer ones replaced, and a replay wrote once more."""
        blobs = self._worker.shared.context.blobs
        for run_id in (await self._store.session(session_id)).run_ids:
            folder = f"checkpoints/{run_id}/sampler_weights"
            for name in await blobs.names(folder):
                if name.startswith(f"{UNNAMED}@"):
                    await blobs.remove(f"{folder}/{name}")

    async def stop(self) -> None:
        for task in self._ending:
            task.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)
