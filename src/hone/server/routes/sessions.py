"""Sessions: made, kept alive, finished, looked at."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hone.protocol import requests
from hone.server.bodies import integer, read
from hone.server.service import Service
from hone.server.sessions import SessionFinishedError


async def create(request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    body = await read(request, requests.CreateSession)
    session_id = await service.sessions.create(body, request.headers.get("x-idempotency-key"))
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
    return JSONResponse({"sessions": await service.store.session_ids(offset, limit)})


routes = [
    Route("/create_session", create, methods=["POST"]),
    Route("/session_heartbeat", heartbeat, methods=["POST"]),
    Route("/sessions/{session_id}/finish", finish, methods=["POST"]),
    Route("/sessions/{session_id}", show),
    Route("/sessions", list_all),
]
