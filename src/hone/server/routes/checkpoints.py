"""Checkpoints: listed, published, given a time to live, deleted.

A checkpoint's id is two segments of a URL, `<kind>/<name>`.
"""

import re
import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hone.errors import UserError
from hone.protocol import requests, responses
from hone.protocol.uris import KINDS, CheckpointPath
from hone.server.access import caller_of
from hone.server.bodies import integer, read
from hone.server.service import Service
from hone.server.store import Checkpoint
from hone.storage.atomic import tree_size

EXPORTS_SINCE = (0, 28)
"""The first version of the official client that knows external weights."""


async def list_all(request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    offset, limit = integer(request, "offset", 0, 2**31), integer(request, "limit", 100, 10000)
    page, total = await service.store.checkpoints(None, offset, limit, caller_of(request).projects, _known(request))
    cursor: responses.Cursor = {"offset": offset, "limit": limit, "total_count": total}
    return JSONResponse({"checkpoints": [described(found, service) for found in page], "cursor": cursor})


async def list_of_run(request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    run = await service.store.run(request.path_params["run_id"])
    page, _ = await service.store.checkpoints(run.id, kinds=_known(request))
    return JSONResponse({"checkpoints": [described(found, service) for found in page]})


def _known(request: Request) -> set[str]:
    """The kinds that this client knows. Old ones refuse a whole list for one checkpoint of another kind."""
    version = re.fullmatch(r"AsyncTinker/Python (\d+)\.(\d+).*", request.headers.get("user-agent", ""))
    if version and (int(version[1]), int(version[2])) < EXPORTS_SINCE:
        return set(KINDS) - {"external_weights"}
    return set(KINDS)


async def delete(request: Request) -> Response:
    service: Service = request.app.state.service
    path = checkpoint_path(request)
    found = await service.store.checkpoint(path)
    await service.meter_storage()
    service.versions.drop(found.directory)
    # Files first: if the server ends in between, the checkpoint is still there to be deleted.
    await service.blobs.remove(found.directory)
    directory = await service.store.delete_checkpoint(path, caller_of(request).key.id)
    if directory not in (None, found.directory):
        service.versions.retire(directory)  # it was saved again meanwhile
    return Response(status_code=204)


async def publish(request: Request) -> Response:
    """Publishing twice is fine: the client would repeat a refusal for minutes."""
    service: Service = request.app.state.service
    public = request.method == "POST"
    event = "checkpoint_publish" if public else "checkpoint_unpublish"
    await service.store.change_checkpoint(
        checkpoint_path(request), {"public": public}, event, caller_of(request).key.id
    )
    return Response(status_code=204)


async def set_ttl(request: Request) -> Response:
    service: Service = request.app.state.service
    seconds = (await read(request, requests.SetTtl)).ttl_seconds
    expires_at = None if seconds is None else time.time() + seconds
    await service.store.change_checkpoint(
        checkpoint_path(request), {"expires_at": expires_at}, "checkpoint_ttl_set", caller_of(request).key.id
    )
    return Response(status_code=204)


def described(checkpoint: Checkpoint, service: Service) -> responses.Checkpoint:
    size = checkpoint.size_bytes
    return {
        "checkpoint_id": checkpoint.path.checkpoint_id,
        "checkpoint_type": checkpoint.path.checkpoint_type,
        "time": responses.timestamp(checkpoint.created_at),
        "tinker_path": str(checkpoint.path),
        "size_bytes": tree_size(service.blobs.path(checkpoint.directory)) if size is None else size,
        "public": checkpoint.public,
        "user_metadata": checkpoint.user_metadata,
        "expires_at": None if checkpoint.expires_at is None else responses.timestamp(checkpoint.expires_at),
    }


def checkpoint_path(request: Request) -> CheckpointPath:
    run_id, kind, name = (request.path_params[part] for part in ("run_id", "kind", "name"))
    if kind not in KINDS:
        raise UserError(f"checkpoint {kind}/{name} has no such kind; allowed are {', '.join(KINDS)}")
    return CheckpointPath(run_id, kind, name)


_OF_RUN = "/training_runs/{run_id}/checkpoints"
ONE = _OF_RUN + "/{kind}/{name}"

routes = [
    Route("/checkpoints", list_all),
    Route(_OF_RUN, list_of_run),
    Route(ONE + "/publish", publish, methods=["POST", "DELETE"]),
    Route(ONE + "/ttl", set_ttl, methods=["PUT"]),
    Route(ONE, delete, methods=["DELETE"]),
]
