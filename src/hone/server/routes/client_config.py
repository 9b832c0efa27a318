"""What a client asks before anything else: how it should behave towards this server."""

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def client_config(_: Request) -> JSONResponse:
    # Plain API keys, one long poll per request; compression only costs time on a local network.
    return JSONResponse({"pjwt_auth_enabled": False, "proto_compress_fwdbwd": False})


async def dynamic_config(_: Request) -> JSONResponse:
    return JSONResponse({"refresh_interval_sec": 300, "sample_cancel_enabled": False})


routes = [
    Route("/client/config", client_config, methods=["POST"]),
    Route("/client/dynamic_config", dynamic_config, methods=["POST"]),
]
