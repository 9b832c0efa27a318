"""Training requests. What is wrong with one beyond its address, its future says: a refused number leaves a hole."""

import asyncio
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from hone.errors import UserError
from hone.protocol import codec, requests
from hone.protocol.proto.tinker_public_pb2 import ForwardBackwardRequest
from hone.protocol.training_json import parse_training
from hone.server import ids
from hone.server.access import caller_of
from hone.server.bodies import LARGE_BYTES, read_body, read_json
from hone.server.journal import Entry, canonical
from hone.server.operations.refused import REFUSED
from hone.server.service import Service


async def forward_backward(request: Request) -> JSONResponse:
    if request.headers.get("content-type", "").startswith("application/json"):
        return await _submit_json(request, forward_only=False)
    service: Service = request.app.state.service
    body = await read_body(request, service.settings.max_body_bytes)
    entry = await asyncio.to_thread(_entry, body) if len(body) > LARGE_BYTES else _entry(body)
    await service.access.check(caller_of(request), entry.lane)
    return await _submit(request, entry)


async def forward(request: Request) -> JSONResponse:
    """Of clients before 0.25; later ones send a flag to `forward_backward`."""
    return await _submit_json(request, forward_only=True)


async def _submit_json(request: Request, forward_only: bool) -> JSONResponse:
    fields = await read_json(request)
    address = requests.parse(requests.OperationAddress, fields)
    try:
        entry = _entry_of(await asyncio.to_thread(parse_training, fields, forward_only))
    except UserError as error:
        entry = Entry(address.model_id, address.seq_id, REFUSED, str(error).encode(), seed=0)
    return await _submit(request, entry)


async def _submit(request: Request, entry: Entry) -> JSONResponse:
    service: Service = request.app.state.service
    await service.sessions.check_open(ids.session_of(entry.lane))
    request_id = await service.worker.submit(replace(entry, key_id=caller_of(request).key.id))
    return JSONResponse({"request_id": request_id})


def _entry(body: bytes) -> Entry:
    return _entry_of(codec.parse_forward_backward(body))


def _entry_of(message: ForwardBackwardRequest) -> Entry:
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
    Route("/forward", forward, methods=["POST"]),
    Route("/optim_step", optim_step, methods=["POST"]),
]
