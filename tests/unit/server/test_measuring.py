import asyncio
from dataclasses import asdict
from pathlib import Path

import pytest

from hone.observe.metrics import REQUESTS
from tests.support.service import forward_backward, serving

pytestmark = pytest.mark.usefixtures("any_database")


def test_requests_are_counted_by_route_and_operations_by_kind(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, adapter_bytes=5000) as client:
            before = {
                (route, status): REQUESTS.value(route=route, status=status)
                for route, status in (("/api/v1/samplers/{sampler_id}", "404"), ("none", "404"), ("/healthz", "200"))
            }
            for _ in range(2):
                await client.http.get("/api/v1/samplers/abc:sample:1")
                await client.http.get("/no/such/path")
            await client.http.get("/healthz")
            grown = {key: REQUESTS.value(route=key[0], status=key[1]) - count for key, count in before.items()}
            assert list(grown.values()) == [2, 2, 1]
            model = await client.model(await client.session())
            await client.output(await client.send(forward_backward(model, 1)))
            await client.service.worker.stop()  # an answer may be out before it is kept, and counted when it is kept
            page = (await client.http.get("/metrics")).text
            assert 'hone_operations_total{kind="forward_backward",outcome="succeeded"}' in page
            assert 'hone_tokens_total{kind="training"}' in page
            assert 'hone_queued_operations{queue="models"} 0' in page
            held = client.service.worker.shared.residency.bytes
            assert held > 0
            assert f"\nhone_adapter_bytes{{}} {held}\n" in page
            assert f'hone_memory_bytes{{use="adapters"}} {held}\n' in page
            limits = asdict(client.service.memory) | {"adapters": 5000}
            assert all(f'hone_memory_limit_bytes{{use="{use}"}} {limit}\n' in page for use, limit in limits.items())
            told = (await client.get("engine"))["memory"]
            assert told["limits"] == limits
            assert told["held"]["adapters"] == held
            assert told["held"]["server"] > 0
            client.http.headers.pop("X-API-Key")
            assert (await client.http.get("/metrics")).status_code == 401
            assert (await client.http.get("/readyz")).json() == {"status": "ready"}

    asyncio.run(run())


def test_a_server_whose_engine_starts_again_is_healthy_and_not_ready(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            client.engine.die()
            client.service.keeper.lost(client.service.keeper.generation)
            assert (await client.http.get("/readyz")).status_code == 503
            assert (await client.http.get("/healthz")).status_code == 200
            await client.service.keeper.running()
            assert (await client.http.get("/readyz")).status_code == 200

    asyncio.run(run())
