"""The web application: routes, the key, and errors as JSON.

Every error has a body `{"detail": "..."}` of known length: the client takes a 400 without one for a broken proxy.
"""

import logging

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from hone.errors import HoneError, NotFoundError, UserError
from hone.server.auth import Authentication
from hone.server.routes import health, routes
from hone.server.service import Service

log = logging.getLogger(__name__)


def create_app(service: Service) -> Starlette:
    assert service.settings.api_key, "a server without a key would serve anybody"
    app = Starlette(
        routes=[Route("/healthz", health.healthz), Mount("/api/v1", routes=routes)],
        middleware=[Middleware(Authentication, api_key=service.settings.api_key)],
        exception_handlers={
            HTTPException: _http_error,
            HoneError: _hone_error,
            Exception: _our_error,
        },
    )
    app.state.service = service
    return app


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    detail = error.detail
    if error.status_code == 404:
        detail = f"{request.method} {request.url.path} is no endpoint of this server"
    return JSONResponse({"detail": detail}, status_code=error.status_code, headers=error.headers)


async def _hone_error(request: Request, error: Exception) -> JSONResponse:
    """The statuses say what the client does: it repeats 5xx for minutes, so only what may pass is one."""
    if isinstance(error, NotFoundError):
        status = 404
    elif isinstance(error, UserError):
        status = 400
    else:
        status = 500
        log.error("%s %s: %s", request.method, request.url.path, error)
    return JSONResponse({"detail": str(error)}, status_code=status)


async def _our_error(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": f"internal error: {type(error).__name__}"}, status_code=500)
