"""Results: held until they are there."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hone.protocol import requests
from hone.server.bodies import answer, read
from hone.server.service import Service


async def retrieve(request: Request) -> Response:
    service: Service = request.app.state.service
    body = await read(request, requests.RetrieveFuture)
    outcome = await service.futures.retrieve(body.request_id, service.settings.long_poll_seconds)
    if outcome is None:
        return JSONResponse({"queue_state": "active"}, status_code=408)  # the client asks again at once
    if body.allow_metadata_only and len(outcome.content) >= service.settings.metadata_only_bytes:
        return JSONResponse({"status": "complete_metadata", "response_payload_size": len(outcome.content)})
    return answer(outcome)


routes = [Route("/retrieve_future", retrieve, methods=["POST"])]
