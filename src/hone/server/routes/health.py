"""Whether the server works and what it serves."""

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from hone.protocol import responses
from hone.server.access import caller_of


async def healthz(request: Request) -> JSONResponse:
    if not request.app.state.service.keeper.healthy:
        return JSONResponse({"status": "engine down"}, status_code=503)
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> JSONResponse:
    """Whether it can work right now: also that its engine is not just being started again."""
    keeper = request.app.state.service.keeper
    if not (keeper.healthy and keeper.ready):
        return JSONResponse({"status": "engine starting" if keeper.healthy else "engine down"}, status_code=503)
    return JSONResponse({"status": "ready"})


async def capabilities(request: Request) -> JSONResponse:
    caller = caller_of(request)
    models = [model for model in request.app.state.service.models.values() if caller.may_use(model.name)]
    return JSONResponse(
        {"supported_models": [responses.supported_model(model.name, model.max_context) for model in models]}
    )


async def engine(request: Request) -> JSONResponse:
    """For operators and benchmarks: which process computes, for how long it has, and what memory is for."""
    service = request.app.state.service
    keeper = service.keeper
    return JSONResponse(
        {
            "pid": keeper.engine.pid,
            "generation": keeper.generation,
            "compute_seconds": await keeper.engine.compute_seconds(),
            "memory": service.memory_report(),
        }
    )


routes = [
    Route("/engine", engine),
    Route("/healthz", healthz),
    Route("/get_server_capabilities", capabilities),
]
