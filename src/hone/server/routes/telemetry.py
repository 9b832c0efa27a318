"""What clients report about themselves: accepted, so that they stay quiet, and dropped."""

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from hone.server.bodies import read_json


async def telemetry(request: Request) -> JSONResponse:
    await read_json(request)
    return JSONResponse({"status": "accepted"})


routes = [Route("/telemetry", telemetry, methods=["POST"])]
