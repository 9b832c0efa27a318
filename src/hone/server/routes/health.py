"""Whether the server works and what it serves."""

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from hone.protocol import responses


async def healthz(request: Request) -> JSONResponse:
    if not request.app.state.service.keeper.healthy:
        return JSONResponse({"status": "engine down"}, status_code=503)
    return JSONResponse({"status": "ok"})


async def capabilities(request: Request) -> JSONResponse:
    models = request.app.state.service.models.values()
    return JSONResponse(
        {"supported_models": [responses.supported_model(model.name, model.max_context) for model in models]}
    )


async def engine(request: Request) -> JSONResponse:
    """For operators and benchmarks: which process computes, and for how long it has."""
    keeper = request.app.state.service.keeper
    seconds = await keeper.engine.compute_seconds()
    return JSONResponse({"pid": keeper.engine.pid, "generation": keeper.generation, "compute_seconds": seconds})


routes = [
    Route("/engine", engine),
    Route("/healthz", healthz),
    Route("/get_server_capabilities", capabilities),
]
