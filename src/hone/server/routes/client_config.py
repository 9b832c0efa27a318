"""What a client asks before anything else: how it should behave towards this server."""

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def client_config(request: Request) -> JSONResponse:
    return JSONResponse(
        {
            "pjwt_auth_enabled": request.app.state.service.settings.jwt_auth,
            "proto_compress_fwdbwd": False,  # compression only costs time on a local network
            "sample_use_retrieve_futures": False,  # one long poll per sample: two requests, not four (decision 0037)
            "sample_join_sampling_session": True,
            "custom_loss_server_side": True,
        }
    )


async def dynamic_config(_: Request) -> JSONResponse:
    return JSONResponse({"refresh_interval_sec": 300, "sample_cancel_enabled": True})


routes = [
    Route("/client/config", client_config, methods=["POST"]),
    Route("/client/dynamic_config", dynamic_config, methods=["POST"]),
]
