"""Losses of the client's own, which the server computes."""

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from hone.protocol import requests
from hone.server import ids
from hone.server.access import caller_of
from hone.server.bodies import read_json
from hone.server.custom_losses import KIND
from hone.server.journal import Entry, canonical
from hone.server.service import Service


async def create(request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    fields = await read_json(request)
    address = requests.parse(requests.CustomLossAddress, fields)
    await service.sessions.check_open(address.session_id)
    lane = ids.losses_lane(address.session_id)
    key_id = caller_of(request).key.id
    entry = Entry(lane, address.custom_loss_seq_id, KIND, canonical(fields), seed=0, key_id=key_id)
    return JSONResponse({"request_id": await service.jobs.submit(entry)})


routes = [Route("/create_custom_loss", create, methods=["POST"])]
