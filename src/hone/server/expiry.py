"""Checkpoints whose time is over. They are invisible from that moment on; here they are cleared away."""

import asyncio
import logging

from hone.server.clock import SteadyClock
from hone.server.store import Store
from hone.server.versions import Versions
from hone.storage.blobs import Blobs

log = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0


async def sweep(store: Store, versions: Versions, blobs: Blobs, clock: SteadyClock) -> None:
    """Clear away now and then, for as long as the server runs."""
    while True:
        try:
            await remove_expired(store, versions, blobs, clock.now())
        except Exception:
            log.exception("expired checkpoints could not be cleared away; trying again")
        await asyncio.sleep(SWEEP_SECONDS)


async def remove_expired(store: Store, versions: Versions, blobs: Blobs, now: float) -> None:
    for expired in await store.expired_checkpoints(now):
        versions.drop(expired.directory)
        # Files first: if the server ends in between, the next sweep finds the checkpoint again.
        await blobs.remove(expired.directory)
        await store.forget_expired(expired)
