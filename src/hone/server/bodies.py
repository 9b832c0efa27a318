"""Request bodies: read within bounds, and answers as JSON."""

import asyncio
import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from hone.errors import BusyError, UserError
from hone.protocol import codec, requests
from hone.protocol.futures import Outcome
from hone.server.access import check_body

LARGE_BYTES = 1 << 18
"""From this size on parsing a body leaves the event loop."""


class BodyRoom:
    """Memory for the bodies of all requests together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.held = 0
        self.unpacking = asyncio.Lock()
        """One body at a time: a few bytes may claim to be as many as there may be."""

    def take(self, request: Request, size: int) -> None:
        """Count what a request brought, until it is answered. `BusyError` if there is no room."""
        if self.held + size > self._limit:
            raise BusyError(f"requests of {self.held} bytes are being read already; send this one again in a moment")
        self.held += size
        request.state.body_bytes += size


class BoundedBodies:
    """Gives the room of a body back when its request is answered."""

    def __init__(self, app: ASGIApp, room: BodyRoom) -> None:
        self._app = app
        self._room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope.setdefault("state", {})
        state["body_bytes"] = 0
        try:
            await self._app(scope, receive, send)
        finally:
            self._room.held -= state["body_bytes"]


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, unpacked; 413 as soon as it grows over `limit`."""
    room: BodyRoom = request.app.state.service.room
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise HTTPException(413, f"the body is larger than {limit} bytes; see HONE_MAX_BODY_BYTES")
        room.take(request, len(chunk))
        chunks.append(chunk)
    body = b"".join(chunks)
    encoding = request.headers.get("content-encoding", "identity")
    if encoding == "identity":
        return body
    if encoding != "zstd":
        raise HTTPException(415, f"Content-Encoding {encoding!r} is not supported; use zstd or none")
    async with room.unpacking:
        unpacked = await asyncio.to_thread(codec.decompress, body, limit)
        room.take(request, len(unpacked))
    return unpacked


async def read_json(request: Request) -> dict[str, Any]:
    """The body as a JSON object that names nothing of other tenants."""
    body = await read_body(request, request.app.state.service.settings.max_body_bytes)
    try:
        fields = json.loads(body)
    except ValueError as error:
        raise UserError(f"the body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise UserError(f"the body must be a JSON object, found {type(fields).__name__}")
    if b"\\u" in body:
        _check_text(fields)
    await check_body(request, fields)
    return fields


def _check_text(fields: dict[str, Any]) -> None:
    """JSON can spell what is no text: it could neither be kept nor sent."""
    try:
        spelled = json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UserError("the body holds half a character: a surrogate such as \\ud800 without the other one") from None
    if b"\\u0000" in spelled:
        raise UserError("the body holds the character NUL, \\u0000, which no text may")


async def read(request: Request, body_type: type[requests.BodyT]) -> requests.BodyT:
    """The body as a `body_type`."""
    return requests.parse(body_type, await read_json(request))


def integer(request: Request, name: str, default: int, maximum: int) -> int:
    """A query parameter in 0..maximum."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isdecimal():
        raise UserError(f"query parameter {name} is {text!r}; it must be a whole number of at least 0")
    return min(int(text), maximum)


def answer(outcome: Outcome) -> Response:
    return Response(outcome.content, media_type=outcome.media_type)
