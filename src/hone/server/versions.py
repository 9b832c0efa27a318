"""Sampler versions in the engine's memory: there when needed, read from disk when they were not, bounded in number.

A version is named by its directory, relative to the data directory: `checkpoints/<run>/<kind>/<name>@<number>`.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from hone.engine.contract import DropVersion, LoadVersion
from hone.errors import UserError
from hone.server.recovery import EngineKeeper
from hone.storage.blobs import Blobs


@dataclass
class _Loaded:
    ready: "asyncio.Future[Any]"
    generation: int
    size: int
    users: int = 0
    retired: bool = False


class Versions:
    def __init__(
        self,
        keeper: EngineKeeper,
        blobs: Blobs,
        capacity: int,
        capacity_bytes: int,
        republish: Callable[[str], Awaitable[None]],
    ) -> None:
        """At most `capacity` versions, of at most `capacity_bytes` together, beyond those that are being sampled from.
        `republish` rebuilds a run, and with it the versions that an engine took along before they were on disk."""
        self._keeper = keeper
        self._blobs = blobs
        self._capacity, self.capacity_bytes = capacity, capacity_bytes
        self._republish = republish
        self._loaded: OrderedDict[str, _Loaded] = OrderedDict()

    @property
    def bytes(self) -> int:
        return sum(loaded.size for loaded in self._loaded.values())

    def publishing(self, version: str, ready: "asyncio.Future[Any]", size: int) -> None:
        """The engine is making this version itself."""
        self._loaded[version] = _Loaded(ready, self._keeper.generation, size)
        self._evict()

    @asynccontextmanager
    async def hold(self, version: str, base_model: str) -> AsyncIterator[None]:
        """Have the version in the engine's memory for the time of the block."""
        loaded = self._current(version)
        if loaded is None:
            if not await self._blobs.fetch(version):
                await self._republish(version.split("/")[1])
            loaded = self._current(version) or self._load(version, base_model)
        self._loaded.move_to_end(version)
        loaded.users += 1
        try:
            await asyncio.shield(loaded.ready)
            self._evict()
            yield
        except Exception:
            if loaded.ready.done() and (loaded.ready.cancelled() or loaded.ready.exception() is not None):
                self._forget(version, loaded)  # so that the next one tries again
            raise
        finally:
            loaded.users -= 1
            if loaded.retired and not loaded.users:
                self._remove(version)

    def retire(self, version: str) -> None:
        """Remove a version that nothing names any more, from memory and disk, once the last of its samples is drawn."""
        loaded = self._current(version)
        if loaded is None or not loaded.users:
            self._remove(version)
        else:
            loaded.retired = True

    def _remove(self, version: str) -> None:
        self.drop(version)
        self._blobs.discard(version)

    def drop(self, version: str) -> None:
        """Release a version for good."""
        if self._current(version) is not None:
            self._keeper.submit(DropVersion(version)).add_done_callback(_ignore)
        self._loaded.pop(version, None)

    def _current(self, version: str) -> _Loaded | None:
        loaded = self._loaded.get(version)
        return loaded if loaded is not None and loaded.generation == self._keeper.generation else None

    def _load(self, version: str, base_model: str) -> _Loaded:
        if not self._blobs.here(version):
            raise UserError(f"the weights of {version} are gone: they were deleted, or their session finished")
        ready = self._keeper.submit(LoadVersion(version, base_model, str(self._blobs.path(version))))
        ready.add_done_callback(_ignore)
        files = self._blobs.path(version).iterdir()
        # beside the matrices, some are there once more in the form that decoding wants
        size = 2 * sum(file.stat().st_size for file in files)
        self._loaded[version] = _Loaded(ready, self._keeper.generation, size)
        return self._loaded[version]

    def _forget(self, version: str, loaded: _Loaded) -> None:
        if self._loaded.get(version) is loaded:
            del self._loaded[version]

    def _evict(self) -> None:
        size = self.bytes
        for version, loaded in list(self._loaded.items()):
            if len(self._loaded) <= self._capacity and size <= self.capacity_bytes:
                return
            if not loaded.users and self._blobs.here(version):
                self.drop(version)
                size -= loaded.size


def _ignore(future: "asyncio.Future[Any]") -> None:
    """Whoever holds the version sees its failure; nobody else needs to."""
    if not future.cancelled():
        future.exception()
