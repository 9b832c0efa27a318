"""Sampling sessions and samples."""

import secrets
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from hone.errors import NotFoundError, UserError
from hone.protocol import requests, responses
from hone.protocol.uris import parse_path
from hone.server import ids
from hone.server.access import caller_of
from hone.server.bases import check_base
from hone.server.bodies import read, read_json
from hone.server.journal import Entry, canonical
from hone.server.service import Service
from hone.server.store import Sampler


async def create_sampling_session(request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    body = await read(request, requests.CreateSamplingSession)
    await service.sessions.check_open(body.session_id)
    sampler = await _sampler(body, service)
    await service.store.insert_sampler(sampler)
    return JSONResponse({"sampling_session_id": sampler.id, "type": "create_sampling_session"})


async def _sampler(body: requests.CreateSamplingSession, service: Service) -> Sampler:
    base_model, version, checkpoint = body.base_model, None, None
    if body.model_path is not None:
        path = parse_path(body.model_path)
        if path.kind == "external_weights":
            raise UserError(f"model_path {body.model_path} is an export; sample from .../sampler_weights/...")
        checkpoint = await service.store.checkpoint(path)
        base_model, version = base_model or checkpoint.base_model, checkpoint.directory
    if base_model is None:
        raise UserError("base_model and model_path are both missing; give one of them")
    if base_model not in service.models:
        raise NotFoundError(
            f"base_model {base_model!r} is not served here; this server has {', '.join(service.models)}"
        )
    if checkpoint is not None:
        check_base(checkpoint, base_model, service.models)
    made = ids.sampler_id(body.session_id, body.sampling_session_seq_id)
    return Sampler(made, body.session_id, base_model, body.model_path, version, ephemeral=False)


async def show(request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    sampler = await service.samples.sampler(request.path_params["sampler_id"])
    described = {"sampler_id": sampler.id, "base_model": sampler.base_model}
    if sampler.model_path is not None:
        described["model_path"] = sampler.model_path
    return JSONResponse(described)


async def join(request: Request) -> JSONResponse:
    """A copy of a client, in another process perhaps, takes a block of sequence numbers of its own."""
    service: Service = request.app.state.service
    body = await read(request, requests.JoinSamplingSession)
    sampler = await service.samples.sampler(body.sampling_session_id)
    await service.sessions.check_open(sampler.session_id)
    return JSONResponse({"client_counter": await service.store.join_sampler(sampler.id)})


async def asample(request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    fields = await read_json(request)
    address = requests.parse(requests.SampleAddress, fields)
    await service.sessions.check_open(ids.session_of(address.sampling_session_id))
    entry = Entry(
        lane=address.sampling_session_id,
        seq_id=address.seq_id,
        kind="sample",
        payload=canonical(fields),
        seed=_seed(fields),
        samples=address.num_samples,
        key_id=caller_of(request).key.id,
    )
    submitted: responses.Submitted = {
        "sample_sequence_ids": await service.samples.submit(entry, fields),
        "request_id": entry.request_id,
    }
    return JSONResponse(submitted)


def _seed(fields: dict[str, Any]) -> int:
    """The seed that the client gave, or one drawn now, once, for this and every replay."""
    params = fields.get("sampling_params")
    seed = params.get("seed") if isinstance(params, dict) else None
    return seed % 2**63 if isinstance(seed, int) else secrets.randbits(63)


routes = [
    Route("/create_sampling_session", create_sampling_session, methods=["POST"]),
    Route("/join_sampling_session", join, methods=["POST"]),
    Route("/samplers/{sampler_id}", show),
    Route("/asample", asample, methods=["POST"]),
]
