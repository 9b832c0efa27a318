"""Weights saved, published, loaded and described."""

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from hone.protocol import requests, responses
from hone.protocol.uris import parse_path
from hone.server.access import caller_of
from hone.server.bodies import read, read_json
from hone.server.routes.models import submit_creation
from hone.server.routes.training import submit_operation
from hone.server.service import Service


async def save(request: Request) -> JSONResponse:
    return await submit_operation(request, "save_weights", await read_json(request))


async def save_for_sampler(request: Request) -> JSONResponse:
    return await submit_operation(request, "save_weights_for_sampler", await read_json(request))


async def save_external(request: Request) -> JSONResponse:
    return await submit_operation(request, "save_weights_external", await read_json(request))


async def copy(request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    body = await read(request, requests.CopyWeights)
    caller = caller_of(request)
    project_id = await service.access.project_for(caller, body.destination_project_id)
    path = await service.copies.copy(body, project_id, caller.key.id, request.headers.get("x-idempotency-key"))
    return JSONResponse({"tinker_path": str(path)})


async def load(request: Request) -> JSONResponse:
    fields = await read_json(request)
    if fields.get("session_id") is not None:
        return await submit_creation(request, "create_by_load", fields)
    return await submit_operation(request, "load_weights", fields)


async def info(request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    body = await read(request, requests.WeightsInfo)
    checkpoint = await service.store.checkpoint(parse_path(body.tinker_path))
    described: responses.WeightsInfo = {
        "base_model": checkpoint.base_model,
        "is_lora": True,
        "lora_rank": checkpoint.lora.rank,
        "train_unembed": checkpoint.lora.train_unembed,
        "train_mlp": checkpoint.lora.train_mlp,
        "train_attn": checkpoint.lora.train_attn,
    }
    return JSONResponse(described)


routes = [
    Route("/save_weights", save, methods=["POST"]),
    Route("/save_weights_for_sampler", save_for_sampler, methods=["POST"]),
    Route("/save_weights_external", save_external, methods=["POST"]),
    Route("/copy_weights", copy, methods=["POST"]),
    Route("/load_weights", load, methods=["POST"]),
    Route("/weights_info", info, methods=["POST"]),
]
