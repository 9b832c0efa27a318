"""Checkpoints and snapshots: directories that are written once, named by their path in the data directory.

The engine writes and reads them on this disk. With an object store, that is where they are kept, and the disk is a
cache: what is missing on it is fetched when it is needed.
"""

import asyncio
import logging
import secrets
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from hone.errors import HoneError
from hone.storage.atomic import copy_tree, remove_tree
from hone.storage.object_store import ObjectStore

log = logging.getLogger(__name__)

T = TypeVar("T")

TRANSFERS = 8
"""Directories on their way at once."""


class Blobs:
    def __init__(self, root: Path, url: str | None = None) -> None:
        """Without `url` there is no object store, and the disk is where everything is kept."""
        self._root = root
        self._store = ObjectStore(url) if url else None
        self._threads = ThreadPoolExecutor(TRANSFERS, "blobs")
        self._latest: dict[str, asyncio.Task[object]] = {}
        """The newest work on each directory in the store; later work waits for it."""
        self._kept: set[str] = set()
        """Directories that are known to be in the store."""
        self._discarding: set[asyncio.Task[None]] = set()

    @property
    def remote(self) -> bool:
        """Whether there is an object store, so that `keep` takes time."""
        return self._store is not None

    def path(self, name: str) -> Path:
        """Where the directory is on this disk, if it is, and where it is to be written."""
        return self._root / name

    def here(self, name: str) -> bool:
        return self.path(name).exists()

    async def keep(self, name: str) -> None:
        """Returns when a directory that is complete on this disk is safe: at once, unless there is an object store. If
        it cannot be, it is removed."""
        try:
            await self._put(name)
        except HoneError:
            self.discard(name)
            raise

    async def keep_once(self, name: str) -> None:
        """The same for what may have been kept before, and stays on the disk in any case."""
        if self._store is not None and name not in self._kept:
            store = self._store
            if await self._in_turn(name, lambda: store.sizes(name)) is None:
                await self._put(name)
            self._kept.add(name)

    async def fetch(self, name: str) -> bool:
        """Have a directory on this disk; False if it is not kept anywhere."""
        if self._store is None or self.here(name):
            return self.here(name)
        return await self._in_turn(name, lambda: self._fetch(name))

    async def copy(self, source: str, target: str) -> int:
        """A second name for the content of a directory that is on this disk; returns its size."""
        size = await asyncio.to_thread(copy_tree, self.path(source), self.path(target))
        await self.keep(target)
        return size

    async def remove(self, name: str) -> None:
        """Remove a directory everywhere; fine if it is nowhere. What fails half-way can be tried again."""
        await asyncio.to_thread(remove_tree, self.path(name))
        await self._remove_stored(name)

    def discard(self, name: str) -> None:
        """The same when nobody waits for it."""
        remove_tree(self.path(name))
        if self._store is not None:
            task = asyncio.create_task(self._remove_stored(name), name=f"discard {name}")
            self._discarding.add(task)
            task.add_done_callback(lambda task: self._discarded(name, task))

    async def names(self, folder: str) -> set[str]:
        """The directories in a folder, as they are called there; some may be incomplete."""
        found = {path.name for path in self.path(folder).glob("*")}
        if self._store is not None:
            store = self._store
            found |= await self._in_turn(folder, lambda: store.names(folder))
        return found

    async def close(self) -> None:
        """Returns when the transfers under way are over; those that wait are dropped."""
        for task in self._discarding:
            task.cancel()
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    async def _put(self, name: str) -> None:
        if self._store is not None:
            store, path = self._store, self.path(name)
            await self._in_turn(name, lambda: store.put(name, path))
            self._kept.add(name)

    async def _remove_stored(self, name: str) -> None:
        if self._store is not None:
            store = self._store
            self._kept.discard(name)
            await self._in_turn(name, lambda: store.remove(name))

    def _discarded(self, name: str, task: "asyncio.Task[None]") -> None:
        self._discarding.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s stays in the object store although nothing names it: %s", name, error)

    async def _in_turn(self, name: str, work: Callable[[], T]) -> T:
        """Do `work` in a thread, after all earlier work on the same directory. It goes on if nobody waits any more."""
        before = self._latest.get(name)

        async def run() -> T:
            if before is not None:
                await asyncio.wait([before])
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)

        task = asyncio.create_task(run())
        self._latest[name] = task
        task.add_done_callback(lambda task: self._over(name, task))
        return await asyncio.shield(task)

    def _over(self, name: str, task: "asyncio.Task[object]") -> None:
        if self._latest.get(name) is task:
            del self._latest[name]
        if not task.cancelled():
            task.exception()  # whoever waited knows

    def _fetch(self, name: str) -> bool:
        path = self.path(name)
        if path.exists():
            return True  # another one who waited fetched it
        assert self._store is not None
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        draft.mkdir(parents=True)
        try:
            if not self._store.get(name, draft):
                return False
            draft.rename(path)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        self._kept.add(name)
        log.info("fetched %s from the object store", name)
        return True
