"""A session's operations on a timeline, for https://ui.perfetto.dev; fetched by a link that needs no key."""

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from hone.errors import AuthenticationError, NotFoundError
from hone.server.links import absolute
from hone.server.service import Service
from hone.server.traces import perfetto

LINK_SECONDS = 3600.0
PURPOSE = "trace"


async def export(request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    session = await service.store.session(request.path_params["session_id"])
    token = service.signer.sign(PURPOSE, {"session_id": session.id}, LINK_SECONDS)
    return JSONResponse({"status": "ready", "url": absolute(request, f"/api/v1/traces/{token}")})


async def show(request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    try:
        claims = service.signer.open(PURPOSE, request.path_params["token"])
    except AuthenticationError as error:
        raise NotFoundError(str(error)) from None
    session = await service.store.session(claims["session_id"])
    timed = await service.journal.timed([*session.run_ids, *session.sampler_ids])
    name = f"{session.id}.pftrace"
    return JSONResponse(perfetto(session, timed), headers={"Content-Disposition": f'attachment; filename="{name}"'})


routes = [
    Route("/sessions/{session_id}/trace_export", export),
    Route("/traces/{token}", show),
]
