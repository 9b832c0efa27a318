"""Sessions: made, kept alive, finished, looked at, searched, moved."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hone.errors import NotFoundError
from hone.identity.accounts import owner_urn
from hone.protocol import requests, responses
from hone.server.access import caller_of
from hone.server.bodies import integer, read
from hone.server.service import Service
from hone.server.sessions import SessionFinishedError
from hone.server.store import FoundSession


async def create(request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    body = await read(request, requests.CreateSession)
    caller = caller_of(request)
    project_id = await service.access.project_for(caller, body.project_id)
    session_id = await service.sessions.create(
        body, project_id, caller.key.id, request.headers.get("x-idempotency-key")
    )
    return JSONResponse({"session_id": session_id, "type": "create_session"})


async def heartbeat(request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    body = await read(request, requests.SessionHeartbeat)
    try:
        await service.sessions.check_open(body.session_id)
    except SessionFinishedError as error:
        return JSONResponse({"detail": str(error)}, status_code=410)  # ends the client's heartbeat without a warning
    return JSONResponse({"type": "session_heartbeat"})


async def finish(request: Request) -> Response:
    service: Service = request.app.state.service
    body = await read(request, requests.FinishSession)
    await service.sessions.finish(request.path_params["session_id"], body.reason.type, body.detail)
    return Response(status_code=204)


async def show(request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    session = await service.store.session(request.path_params["session_id"])
    return JSONResponse(
        {
            "training_run_ids": session.run_ids,
            "sampler_ids": session.sampler_ids,
            "user_metadata": session.user_metadata,
            "display_name": session.display_name,
        }
    )


async def list_all(request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    offset, limit = integer(request, "offset", 0, 2**31), integer(request, "limit", 20, 1000)
    return JSONResponse({"sessions": await service.store.session_ids(offset, limit, caller_of(request).projects)})


async def search(request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    caller = caller_of(request)
    body = await read(request, requests.SearchSessions)
    projects = caller.projects if body.project_ids is None else frozenset(body.project_ids)
    if foreign := sorted(projects - caller.projects):
        raise NotFoundError(f"project {foreign[0]!r} does not exist for this key")
    users = {"own": [caller.key.user_id], "accessible": None, "user": body.owner.user_ids}[body.owner.type]
    found = await service.store.search_sessions(body, projects, users)
    page = found[: body.limit]
    cursor = None
    if len(found) > len(page):
        cursor = {"last_created_at": responses.timestamp(page[-1].created_at), "last_session_id": page[-1].id}
    return JSONResponse({"sessions": [_summary(one) for one in page], "next_cursor": cursor})


def _summary(found: FoundSession) -> dict[str, Any]:
    return {
        "session_id": found.id,
        "created_at": responses.timestamp(found.created_at),
        "owner": owner_urn(found.user_id),
        "project_id": found.project_id,
        "status": found.status,
        "display_name": found.display_name,
        "user_metadata": found.user_metadata,
        "checkpoints_count": found.checkpoints_count,
        "checkpoint_storage_bytes": found.checkpoint_storage_bytes,
    }


async def move(request: Request) -> Response:
    """The session goes to another project with everything in it, its usage included."""
    service: Service = request.app.state.service
    caller, session_id = caller_of(request), request.path_params["session_id"]
    body = await read(request, requests.AssignProject)
    project_id = await service.access.project_for(caller, body.project_id)
    await service.store.move_session(session_id, project_id, caller)
    service.access.moved(session_id)
    return Response(status_code=204)


routes = [
    Route("/sessions/search", search, methods=["POST"]),
    Route("/sessions/{session_id}/project", move, methods=["PUT"]),
    Route("/create_session", create, methods=["POST"]),
    Route("/session_heartbeat", heartbeat, methods=["POST"]),
    Route("/sessions/{session_id}/finish", finish, methods=["POST"]),
    Route("/sessions/{session_id}", show),
    Route("/sessions", list_all),
]
