import asyncio
from collections.abc import AsyncGenerator

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from hone.server.inference.events import opened, while_connected


def test_work_ends_when_its_client_goes() -> None:
    async def run() -> None:
        leaving, cancelled = asyncio.Event(), asyncio.Event()

        async def receive() -> Message:
            await leaving.wait()
            return {"type": "http.disconnect"}

        async def work() -> str:
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                cancelled.set()
                raise
            return "done"

        request = Request({"type": "http"}, receive)
        assert await while_connected(request, asyncio.sleep(0, "done")) == "done"
        asyncio.get_running_loop().call_later(0.01, leaving.set)
        with pytest.raises(HTTPException):
            await while_connected(request, work())
        assert cancelled.is_set()

    asyncio.run(run())


def test_a_failure_at_the_start_is_raised_before_anything_is_sent() -> None:
    async def items(count: int) -> AsyncGenerator[int, None]:
        for i in range(count):
            yield i
        raise ValueError("over")

    async def run() -> None:
        with pytest.raises(ValueError, match="over"):
            await opened(items(0))
        started = await opened(items(2))
        assert [await anext(started), await anext(started)] == [0, 1]
        with pytest.raises(ValueError, match="over"):
            await anext(started)

    asyncio.run(run())
