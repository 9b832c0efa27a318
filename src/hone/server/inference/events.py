"""Answers that go out while they are made, and end when nobody listens any more."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


async def opened(items: AsyncGenerator[ItemT, None]) -> AsyncGenerator[ItemT, None]:
    """The same items, once there is a first one: so what is wrong from the start is raised here."""
    first = await anext(items)

    async def all_items() -> AsyncGenerator[ItemT, None]:
        async with aclosing(items):
            yield first
            async for item in items:
                yield item

    return all_items()


class EventStream(StreamingResponse):
    """Server-sent events. The generator is closed at the end, and as soon as the client goes."""

    def __init__(self, events: AsyncGenerator[str, None]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._events.aclose()


async def while_connected(request: Request, work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """The result of `work`, which is cancelled if the client goes first. The body must have been read."""
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(request.receive())  # after the body, the only message there is says so
    try:
        await asyncio.wait([working, gone], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise HTTPException(499, "the client went away")
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)
