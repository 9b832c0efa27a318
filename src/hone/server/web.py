"""Runs the application on a socket, beside whatever else the event loop does."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from types import TracebackType

import uvicorn
from starlette.applications import Starlette

GRACE_SECONDS = 3
"""How long open requests may take when the server stops."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to whoever started the process."""
        yield


class WebServer:
    """`async with WebServer(app, listener):` serves inside the block."""

    def __init__(self, app: Starlette, listener: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            backlog=4096,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=GRACE_SECONDS,
            ws="none",
        )
        self._server = _Server(config)
        self._listener = listener

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._server.serve([self._listener]), name="web server")
        while not self._server.started and not self._task.done():
            await asyncio.sleep(0.001)  # the library has no other way to say that it listens
        if self._task.done():
            self._task.result()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        await self._task
