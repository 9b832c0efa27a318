"""The engine as the API process sees it: a child process behind a socket."""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

from hone.engine import wire
from hone.engine.contract import BaseModel, Device, ModelSource, Operation, Sample, SamplePart
from hone.engine.wire import CANCEL, LENGTH, STATS
from hone.errors import EngineLostError, HoneError, ServerError
from hone.protocol.types import SampleResult

logger = logging.getLogger(__name__)

_ENVIRONMENT = {
    # waiting threads must not spin on the API process's core
    "OMP_WAIT_POLICY": "PASSIVE",
    # a step frees what the next one takes again; giving the memory back in between costs a fifth of the speed
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
    "MALLOC_TOP_PAD_": str(16 << 20),
    # what one thread has freed serves the others too; a heap for each holds a hundred megabytes for nobody
    "MALLOC_ARENA_MAX": "1",
}

_CLOSE_SECONDS = 60.0
"""How long the last writes may take before the process is ended regardless."""


class RemoteEngine:
    """Implements `hone.engine.contract.Engine`. Made by `hone.engine.build.start_engine`."""

    def __init__(
        self,
        sources: Sequence[ModelSource],
        threads: int | None,
        held: Sequence[int],
        device: Device,
        memory_bytes: int | None,
        limits: dict[str, int],
    ) -> None:
        self.models: dict[str, BaseModel] = {}
        self.pid = 0
        self._start_up = {
            "sources": [(s.name, str(s.directory)) for s in sources],
            "threads": threads,
            "memory_bytes": memory_bytes,
            "limits": limits,
            "device": (device.name, device.dtype, device.invariant),
        }
        self._held = held
        self._tickets = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._streams: dict[int, asyncio.Queue[SamplePart | None]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the process and load the models; raises what loading raised."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "hone.engine.process",
                str(theirs.fileno()),
                pass_fds=[theirs.fileno(), *self._held],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sys.stderr.fileno(),  # stdout belongs to the command line's own output
                env=_ENVIRONMENT | os.environ,
            )
        self.pid = self._process.pid
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._send(self._start_up)
        self._listening = asyncio.create_task(self._listen(reader))
        described: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[0] = described
        try:
            self.models = {model.name: model for model in await described}
        except BaseException:
            await self.close()
            raise

    def submit(self, operation: Operation) -> "asyncio.Future[Any]":
        ticket, future = self._request(operation)
        if isinstance(operation, Sample):
            future.add_done_callback(lambda f: self._cancel(ticket) if f.cancelled() else None)
        return future

    async def stream(self, operation: Sample) -> AsyncGenerator[SamplePart | SampleResult, None]:
        ticket, future = self._request(replace(operation, parts=True))
        parts = self._streams[ticket] = asyncio.Queue()
        future.add_done_callback(lambda _: parts.put_nowait(None))
        try:
            while (part := await parts.get()) is not None:
                yield part
            yield await future
        finally:
            del self._streams[ticket]
            if not future.done():
                self._cancel(ticket)
            elif not future.cancelled():
                future.exception()  # whoever stopped listening need not know

    async def compute_seconds(self) -> float:
        seconds: float = await self._request(STATS)[1]
        return seconds

    async def restart(self) -> None:
        await self.close()
        await self.start()

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()  # the process ends when its socket closes
            self._writer = None
        if self._process is not None:
            try:
                await asyncio.wait_for(self._process.wait(), _CLOSE_SECONDS)
            except TimeoutError:
                logger.error("the engine process did not end within %.0f s; ending it", _CLOSE_SECONDS)
                self._process.kill()
                await self._process.wait()
            self._process = None
        if self._listening is not None:
            await self._listening
            self._listening = None

    def _request(self, message: Any) -> tuple[int, "asyncio.Future[Any]"]:
        self._tickets += 1
        ticket = self._tickets
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._writer is None or self._writer.is_closing():
            future.set_exception(EngineLostError("the engine process is not running"))
            return ticket, future
        self._waiting[ticket] = future
        try:
            self._send((ticket, message))
        except Exception as error:  # what cannot be encoded must fail its own operation only
            self._settle(ticket, ServerError(f"this operation cannot be handed to the engine: {error}"))
        return ticket, future

    def _cancel(self, ticket: int) -> None:
        if self._waiting.pop(ticket, None) is not None and self._writer is not None:
            self._send((ticket, CANCEL))

    def _send(self, message: Any) -> None:
        assert self._writer is not None
        data = wire.encode(message)
        self._writer.writelines((LENGTH.pack(len(data)), data))  # one call: the engine wakes up once, to all of it

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                size = LENGTH.unpack(await reader.readexactly(LENGTH.size))[0]
                self._settle(*wire.decode(await reader.readexactly(size)))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        lost, self._waiting = self._waiting, {}
        for future in lost.values():
            if not future.done():
                future.set_exception(EngineLostError("the engine process ended"))

    def _settle(self, ticket: int, result: Any) -> None:
        if isinstance(result, SamplePart):
            if ticket in self._streams:
                self._streams[ticket].put_nowait(result)
            return
        future = self._waiting.pop(ticket, None)
        if future is None or future.done():
            return
        if isinstance(result, HoneError):
            future.set_exception(result)
        else:
            future.set_result(result)
