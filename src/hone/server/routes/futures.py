"""Results: held until they are there."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hone.protocol import requests, responses
from hone.server import ids
from hone.server.bodies import answer, read
from hone.server.service import Service


async def retrieve(request: Request) -> Response:
    service: Service = request.app.state.service
    body = await read(request, requests.RetrieveFuture)
    outcome = await service.futures.retrieve(body.request_id, service.settings.long_poll_seconds)
    if outcome is None:
        return JSONResponse(_queue_state(service, body.request_id), status_code=408)  # the client asks again at once
    if body.allow_metadata_only and len(outcome.content) >= service.settings.metadata_only_bytes:
        return JSONResponse({"status": "complete_metadata", "response_payload_size": len(outcome.content)})
    return answer(outcome)


def _queue_state(service: Service, request_id: str) -> dict[str, str]:
    """Why there is no result yet; clients show the reason of a pause to their user."""
    if (reason := service.budgets.reason(ids.lane_of(request_id))) is not None:
        return {"queue_state": "paused_rate_limit", "queue_state_reason": reason}
    if service.keeper.is_running:
        return {"queue_state": "active"}
    return {"queue_state": "paused_capacity", "queue_state_reason": "the engine ended and is being started again"}


async def retrieve_many(request: Request) -> JSONResponse:
    """Which requests of one client of a sampling session were answered since its last poll."""
    service: Service = request.app.state.service
    body = await read(request, requests.RetrieveFutures)
    lane = (await service.samples.sampler(body.target.sampling_session_id)).id
    if body.retrieved_request_ids:
        await service.journal.forget(lane, body.retrieved_request_ids)
    longest = service.settings.long_poll_seconds
    seconds = longest if body.timeout is None else min(body.timeout, longest)
    found = await service.futures.completed(lane, body.target.cloned_sampler_id, body.prev_cursor, seconds)
    cursor = found[-1].number if found else body.prev_cursor
    completions: list[responses.Completion] = [
        {"state": "failed", "request_id": one.request_id}
        if one.failed
        else {"state": "finished", "request_id": one.request_id, "response_payload_uncompressed_size": one.size}
        for one in found
    ]
    if not found and seconds and service.budgets.reason(lane) is not None:
        # Why it waits, a client can only be told by the poll for one answer: this sends it there with one request.
        waiting = service.samples.oldest(lane, body.target.cloned_sampler_id)
        completions = [] if waiting is None else [{"state": "finished", "request_id": waiting}]
    described: dict[str, Any] = {"completions": completions, "cursor": cursor}
    return JSONResponse(described)


async def cancel(request: Request) -> Response:
    """Fine whatever the request is: finished, unknown, or none that can be cancelled."""
    service: Service = request.app.state.service
    body = await read(request, requests.CancelFuture)
    service.samples.cancel(body.request_id)
    return Response(status_code=204)


routes = [
    Route("/retrieve_future", retrieve, methods=["POST"]),
    Route("/retrieve_futures", retrieve_many, methods=["POST"]),
    Route("/cancel_future", cancel, methods=["POST"]),
]
