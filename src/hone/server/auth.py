"""Every request but the health checks shows the key."""

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from hone.errors import AuthenticationError
from hone.identity.keys import authenticate

OPEN_PATHS = frozenset({"/healthz", "/api/v1/healthz"})


class Authentication:
    def __init__(self, app: ASGIApp, api_key: str) -> None:
        self._app = app
        self._api_key = api_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            try:
                authenticate(_presented(scope), self._api_key)
            except AuthenticationError as error:
                await JSONResponse({"detail": str(error)}, status_code=401)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _presented(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            return bytes(value).decode("latin-1")
    return None
