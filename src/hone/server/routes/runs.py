"""Training runs, listed and looked at."""

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from hone.identity.accounts import owner_urn
from hone.protocol import responses
from hone.server.access import visible_projects
from hone.server.bodies import integer
from hone.server.routes.checkpoints import described as described_checkpoint
from hone.server.service import Service
from hone.server.store import RunSummary

COST = "hone_cost_usd"


async def show(request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    summary = await service.store.run_summary(request.path_params["run_id"], service.prices)
    return JSONResponse(_described(summary, service))


async def list_all(request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    offset, limit = integer(request, "offset", 0, 2**31), integer(request, "limit", 20, 1000)
    projects = visible_projects(request)
    page, total = await service.store.run_summaries(offset, limit, projects, service.prices)
    cursor: responses.Cursor = {"offset": offset, "limit": limit, "total_count": total}
    return JSONResponse({"training_runs": [_described(summary, service) for summary in page], "cursor": cursor})


def _described(summary: RunSummary, service: Service) -> responses.TrainingRun:
    run = summary.run
    newest, newest_sampler = summary.last_checkpoint, summary.last_sampler_checkpoint
    return {
        "training_run_id": run.id,
        "base_model": run.base_model,
        "model_owner": owner_urn(summary.user_id),
        "is_lora": True,
        "corrupted": False,
        "lora_rank": run.lora.rank,
        "last_request_time": responses.timestamp(summary.last_request_at),
        "last_checkpoint": None if newest is None else described_checkpoint(newest, service),
        "last_sampler_checkpoint": None if newest_sampler is None else described_checkpoint(newest_sampler, service),
        # Beside what the user noted, what the run cost so far, where prices are set.
        "user_metadata": {COST: f"{summary.cost_usd:.6f}", **(run.user_metadata or {})}
        if service.prices.table
        else run.user_metadata,
    }


routes = [
    Route("/training_runs", list_all),
    Route("/training_runs/{run_id}", show),
]
