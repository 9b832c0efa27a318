"""Models: made new or from a checkpoint, and described."""

import ipaddress
import secrets
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from hone.protocol import requests, responses
from hone.server import ids
from hone.server.access import caller_of
from hone.server.bodies import read, read_json
from hone.server.journal import Entry, canonical
from hone.server.service import Service
from hone.server.unloading import KIND as UNLOAD


async def create(request: Request) -> JSONResponse:
    return await submit_creation(request, "create_model", await read_json(request))


async def submit_creation(request: Request, kind: str, fields: dict[str, Any]) -> JSONResponse:
    """A model's operation 0."""
    service: Service = request.app.state.service
    address = requests.parse(requests.ModelAddress, fields)
    await service.sessions.check_open(address.session_id)
    lane = ids.model_id(address.session_id, address.model_seq_id)
    key_id = caller_of(request).key.id
    entry = Entry(lane, 0, kind, canonical(fields), lora_seed(fields), key_id=key_id)
    return JSONResponse({"request_id": await service.worker.submit(entry), "model_id": lane})


async def get_info(request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    body = await read(request, requests.GetInfo)
    run = await service.store.run(body.model_id)
    model = service.models.get(run.base_model)
    if model is None:
        return JSONResponse(responses.get_info(run.id, run.base_model, "unknown", run.lora.rank, run.base_model))
    # A client on this machine reads the model's own directory, at once and without a hub; others go by the name.
    tokenizer_id = model.directory if _is_local(request) else model.name
    return JSONResponse(responses.get_info(run.id, model.name, model.architecture, run.lora.rank, tokenizer_id))


async def unload(request: Request) -> JSONResponse:
    """Of clients before 0.38; later ones finish the session."""
    service: Service = request.app.state.service
    fields = await read_json(request)
    model_id = requests.parse(requests.UnloadModel, fields).model_id
    await service.store.run(model_id)
    entry = Entry(ids.unloading_lane(model_id), 0, UNLOAD, canonical(fields), seed=0, key_id=caller_of(request).key.id)
    return JSONResponse({"request_id": await service.jobs.submit(entry), "model_id": model_id})


def _is_local(request: Request) -> bool:
    if request.client is None or "x-forwarded-for" in request.headers:
        return False  # a proxy on this machine speaks for clients elsewhere
    return ipaddress.ip_address(request.client.host).is_loopback


def lora_seed(fields: dict[str, Any]) -> int:
    """The seed that the client gave, or one drawn now, once, for this and every replay."""
    config = fields.get("lora_config")
    seed = config.get("seed") if isinstance(config, dict) else None
    return seed % 2**63 if isinstance(seed, int) else secrets.randbits(31)


routes = [
    Route("/create_model", create, methods=["POST"]),
    Route("/get_info", get_info, methods=["POST"]),
    Route("/unload_model", unload, methods=["POST"]),
]
