"""The caller's own key: looked at, ended, exchanged for a token."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hone.errors import NotFoundError
from hone.identity import accounts
from hone.server.access import caller_of
from hone.server.service import Service


async def show(request: Request) -> JSONResponse:
    caller = caller_of(request)
    details = {"org_details": {"name": caller.organization_id}, "user_details": {"email": caller.email}}
    key = caller.key
    return JSONResponse({"key_id": key.id, "name": key.name, "note": key.note, "details": details})


async def revoke(request: Request) -> Response:
    service: Service = request.app.state.service
    key_id = caller_of(request).key.id
    await service.database.run(lambda connection: accounts.revoke_key(connection, key_id, by=key_id))
    service.keys.forget()
    return Response(status_code=204)


async def token(request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    if not service.settings.jwt_auth:
        raise NotFoundError("this server takes API keys as they are; see HONE_JWT_AUTH")
    return JSONResponse({"jwt": service.keys.token(caller_of(request))})


routes = [
    Route("/auth/apikey/me", show),
    Route("/auth/apikey/me", revoke, methods=["DELETE"]),
    Route("/auth/token", token, methods=["POST"]),
]
