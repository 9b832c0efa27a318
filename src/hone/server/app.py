"""The web application: routes, the key, and which status an error has."""

import logging

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Mount, Route

from hone.errors import BusyError, DiskFullError, ForbiddenError, HoneError, NotFoundError, UserError
from hone.server.access import guarded
from hone.server.auth import Authentication
from hone.server.bodies import BoundedBodies
from hone.server.failures import ANTHROPIC, OPENAI, failure
from hone.server.measuring import Measuring
from hone.server.routes import anthropic, health, hub, metrics, openai, routes
from hone.server.service import Service

log = logging.getLogger(__name__)


def create_app(service: Service) -> Starlette:
    assert service.settings.api_key, "a server without a key would serve anybody"
    paths: list[BaseRoute] = [
        Mount("/api/v1", routes=guarded(routes)),
        Route("/healthz", health.healthz),
        Route("/readyz", health.readyz),
        Route("/metrics", metrics.metrics),
        Mount(OPENAI, routes=guarded(openai.routes)),
        Mount(ANTHROPIC, routes=guarded(anthropic.routes)),
        Mount("/hf", routes=hub.routes),
    ]
    app = Starlette(
        routes=paths,
        middleware=[
            Middleware(Measuring, routes=paths),
            Middleware(BoundedBodies, room=service.room),
            Middleware(Authentication, keys=service.keys),
        ],
        exception_handlers={
            HTTPException: _http_error,
            HoneError: _hone_error,
            RecursionError: _too_deep,
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
    return failure(request.url.path, error.status_code, detail, error.headers)


async def _hone_error(request: Request, error: Exception) -> JSONResponse:
    """The statuses say what the client does: it repeats 5xx for minutes, so only what may pass is one."""
    if isinstance(error, NotFoundError):
        status = 404
    elif isinstance(error, ForbiddenError):
        status = 403
    elif isinstance(error, BusyError):
        status = 429
    elif isinstance(error, UserError):
        status = 400
    elif isinstance(error, DiskFullError):
        status = 507
        log.error("%s %s: %s", request.method, request.url.path, error)
    else:
        status = 500
        log.error("%s %s: %s", request.method, _without_secrets(request), error)
    return failure(request.url.path, status, str(error))


def _without_secrets(request: Request) -> str:
    """The path, for the log: whoever has a signed link may follow it."""
    path = request.url.path
    return path.replace(request.path_params["token"], "{token}") if "token" in request.path_params else path


async def _too_deep(request: Request, error: Exception) -> JSONResponse:
    return failure(request.url.path, 400, "the body is nested too deeply; no request needs more than a few levels")


async def _our_error(request: Request, error: Exception) -> JSONResponse:
    return failure(request.url.path, 500, f"internal error: {type(error).__name__}")
