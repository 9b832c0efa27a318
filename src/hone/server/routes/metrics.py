"""What Prometheus asks for; see `observe/metrics.py`."""

from starlette.requests import Request
from starlette.responses import PlainTextResponse

from hone.observe.metrics import MEMORY, MEMORY_LIMIT, QUEUED, RESIDENT, exposition
from hone.server.service import Service


async def metrics(request: Request) -> PlainTextResponse:
    service: Service = request.app.state.service
    RESIDENT.set(service.worker.shared.residency.bytes)
    memory = service.memory_report()
    for use, held in memory["held"].items():
        MEMORY.set(held, use=use)
    for use, limit in memory["limits"].items():
        MEMORY_LIMIT.set(limit, use=use)
    QUEUED.set(service.worker.waiting, queue="models")
    QUEUED.set(len(service.samples.under_way), queue="samples")
    return PlainTextResponse(exposition(), media_type="text/plain; version=0.0.4")
