"""What was used and what it costs, in the shape of the official client's billing calls."""

import time
from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from hone.errors import UserError
from hone.identity.accounts import owner_urn
from hone.identity.prices import ANY_MODEL, GIGABYTE, MONTH_HOURS, STORAGE, Prices
from hone.protocol import responses
from hone.server.access import caller_of, visible_projects
from hone.server.service import Service
from hone.server.usage import HOUR, Filter, Kind, Used, stored, used
from hone.storage.tables import sessions

MAX_DAYS = 14


async def events(request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    start, end = _hour(request, "starting_on"), _hour(request, "ending_before")
    if not start < end <= start + MAX_DAYS * 24:
        raise UserError(f"ending_before must come after starting_on, and by at most {MAX_DAYS} days")
    await service.meter_storage()
    chosen = Filter(projects=caller_of(request).projects, since_hour=start, before_hour=end)

    def work(connection: Connection) -> tuple[list[Used], dict[str, Any]]:
        found = used(connection, chosen)
        named = {one.session_id for one in found}
        query = select(sessions.c.id, sessions.c.user_metadata).where(sessions.c.id.in_(named))
        return found, {row.id: {"user_metadata": row.user_metadata} for row in connection.execute(query)}

    found, of_sessions = await service.database.run(work)
    return JSONResponse({"data": _events(found, service.prices), "sessions": of_sessions, "cost_data_through": None})


def _events(found: list[Used], prices: Prices) -> list[dict[str, Any]]:
    """One event for each hour, kind, model, session and user; runs and keys are finer than clients ask for."""
    sums: defaultdict[tuple[int, Kind, str, str, str | None, str | None], int] = defaultdict(int)
    for one in found:
        sums[one.hour, one.kind, one.base_model, one.session_id, one.project_id, one.user_id] += one.quantity
    described = []
    for (hour, kind, model, session_id, project_id, user_id), quantity in sorted(
        sums.items(), key=lambda item: (item[0][0], -item[1])
    ):
        rate, cost = prices.rate(model, kind), prices.cost(model, kind, quantity)
        per = "effective_rate_usd_per_gigabyte_month" if kind == STORAGE else "effective_rate_usd_per_million_tokens"
        described.append(
            {
                "bucket_start": responses.timestamp(hour * HOUR),
                "bucket_end": responses.timestamp((hour + 1) * HOUR),
                "base_model": model,
                "user_id": None if user_id is None else owner_urn(user_id),
                "user_name": user_id,
                "session_id": session_id or None,
                "project_id": project_id,
                "estimated_cost_usd": cost,
                per: rate,
                "event_info": _info(kind, quantity),
            }
        )
    return described


def _info(kind: Kind, quantity: int) -> dict[str, Any]:
    match kind:
        case "training":
            return {"type": "training", "token_count": quantity}
        case "prefill" | "cached_prefill":
            return {"type": "sampling_prefill", "cached": kind == "cached_prefill", "token_count": quantity}
        case "sample":
            return {"type": "sampling_sample", "token_count": quantity}
        case "checkpoint":
            return {"type": "checkpoint", "count": quantity}
        case "storage":
            return {"type": "storage", "free": False, "gigabyte_hours": quantity / GIGABYTE / 3600}


async def current_checkpoints(request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    projects = visible_projects(request)
    await service.meter_storage()
    found = await service.database.run(lambda connection: stored(connection, projects, time.time()))
    rate = service.prices.rate(ANY_MODEL, STORAGE)
    data = [
        {
            "project_id": one.project_id,
            "org_user_urn": None if one.user_id is None else owner_urn(one.user_id),
            "user_email": one.email,
            "user_name": one.user_id,
            "checkpoint_count": one.checkpoint_count,
            "size_bytes": one.size_bytes,
            "size_gigabytes": one.size_bytes / GIGABYTE,
            "estimated_monthly_cost_usd": service.prices.cost(ANY_MODEL, STORAGE, one.size_bytes * HOUR * MONTH_HOURS),
        }
        for one in found
    ]
    return JSONResponse({"effective_rate_usd_per_gigabyte_month": rate, "data": data})


def _hour(request: Request, name: str) -> int:
    """A query parameter as hours since the epoch."""
    text = request.query_params.get(name)
    try:
        when = datetime.fromisoformat(text or "")
    except ValueError:
        raise UserError(f"{name} is {text!r}; it must be a time such as 2026-07-13T00:00:00Z") from None
    if when.utcoffset() is None or when.timestamp() % HOUR or when.utcoffset() != timedelta():
        raise UserError(f"{name} is {text!r}; it must be a full hour in UTC, such as 2026-07-13T00:00:00Z")
    return int(when.timestamp()) // HOUR


routes = [
    Route("/billing/usage/events", events),
    Route("/billing/usage/checkpoints/current", current_checkpoints),
]
