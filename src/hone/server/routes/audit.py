"""Who did what to keys, projects and checkpoints: one day of the caller's organisation."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from hone.errors import UserError
from hone.identity.audit import RESOURCES, AuditEntry, entries
from hone.protocol import responses
from hone.server.access import caller_of
from hone.server.service import Service


async def show(request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    caller = caller_of(request)
    wanted = request.query_params.get("event_type", "all")
    if wanted not in RESOURCES:
        raise UserError(f"event_type is {wanted!r}; it must be one of {', '.join(RESOURCES)}")
    start = _day(request.query_params.get("day"))
    since, before = start.timestamp(), (start + timedelta(days=1)).timestamp()
    found = await service.database.run(
        lambda connection: entries(connection, caller.organization_id, RESOURCES[wanted], since, before)
    )
    return JSONResponse({"entries": [_described(entry) for entry in found]})


def _day(text: str | None) -> datetime:
    try:
        day = datetime.now(UTC).date() if text is None else date.fromisoformat(text)
        return datetime(day.year, day.month, day.day, tzinfo=UTC)
    except ValueError:
        raise UserError(f"day is {text!r}; it must look like 2026-01-31") from None


def _described(entry: AuditEntry) -> dict[str, Any]:
    described: dict[str, Any] = {
        "timestamp": responses.timestamp(entry.at),
        "event": entry.event,
        "event_details": entry.details,
    }
    for name in ("model_id", "tinker_path"):
        if name in entry.details:
            described[name] = entry.details[name]
    return described


routes = [Route("/audit", show)]
