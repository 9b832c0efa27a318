"""Training requests. What is wrong with one beyond its address, its future says: a refused number leaves a hole."""

import asyncio
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from hone.errors import UserError
from hone.protocol import codec, requests
from hone.server import ids
from hone.server.access import caller_of
from hone.server.bodies import LARGE_BYTES, read_body, read_json
from hone.server.journal import Entry, canonical
from hone.server.service import Service


async def forward_backward(request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    body = await read_body(request, service.settings.max_body_bytes)
    caller = caller_of(request)
    parsed = await asyncio.to_thread(_entry, body) if len(body) > LARGE_BYTES else _entry(body)
    entry = replace(parsed, key_id=caller.key.id)
    await service.access.check(caller, entry.lane)
    await service.sessions.check_open(ids.session_of(entry.lane))
    return JSONResponse({"request_id": await service.worker.submit(entry)})


def _entry(body: bytes) -> Entry:
    message = codec.parse_forward_backward(body)
    if not message.model_id:
        raise UserError("model_id is missing")
    if message.seq_id < 1:
        raise UserError(f"seq_id is {message.seq_id}; the first request of a model has number 1")
    # Equal content must give equal bytes, and the client's own order of map entries changes from try to try.
    payload = message.SerializeToString(deterministic=True)
    return Entry(message.model_id, message.seq_id, "forward_backward", payload, seed=0)


async def optim_step(request: Request) -> JSONResponse:
    return await submit_operation(request, "optim_step", await read_json(request))


async def submit_operation(request: Request, kind: str, fields: dict[str, Any]) -> JSONResponse:
    """A numbered JSON operation of a model."""
    service: Service = request.app.state.service
    address = requests.parse(requests.OperationAddress, fields)
    await service.sessions.check_open(ids.session_of(address.model_id))
    identity = None
    if "sampling_session_seq_id" in fields:
        # The client draws a new number for the sampling session whenever it repeats the request.
        identity = canonical({name: value for name, value in fields.items() if name != "sampling_session_seq_id"})
    key_id = caller_of(request).key.id
    entry = Entry(address.model_id, address.seq_id, kind, canonical(fields), seed=0, key_id=key_id, identity=identity)
    return JSONResponse({"request_id": await service.worker.submit(entry)})


routes = [
    Route("/forward_backward", forward_backward, methods=["POST"]),
    Route("/optim_step", optim_step, methods=["POST"]),
]
