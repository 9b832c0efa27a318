import asyncio
from dataclasses import asdict
from pathlib import Path

import pytest

from hone.server.journal import Entry, Passed
from tests.support.service import forward_backward, serving
from tests.support.uniform_engine import UniformEngine

pytestmark = pytest.mark.usefixtures("any_database")


def test_a_trace_shows_every_operation_to_whoever_has_the_link(tmp_path: Path) -> None:
    async def run() -> None:
        engine = UniformEngine()
        async with serving(tmp_path, engine) as client:
            session = await client.session()
            model = await client.model(session)
            await client.output(await client.send(forward_backward(model, 1)))
            engine.slow = 60
            await client.send(forward_backward(model, 2))
            link = await client.get(f"sessions/{session}/trace_export")
            assert link["status"] == "ready"
            client.http.headers.clear()
            trace = (await client.http.get(link["url"])).json()
            begun = [event for event in trace["traceEvents"] if event["ph"] == "b"]
            assert [event["args"]["state"] for event in begun] == ["succeeded", "succeeded", "unfinished"]
            assert [event["id"] for event in begun] == [f"{model}:{seq}" for seq in range(3)]
            assert {event["tid"] for event in begun} == {1}
            named = {event["args"]["name"] for event in trace["traceEvents"] if event["ph"] == "M"}
            assert named == {f"session {session}", model}
            head, _, signature = link["url"].rpartition(".")
            assert (await client.http.get(f"{head}.{signature[::-1]}")).status_code == 404

    asyncio.run(run())


def test_a_pass_shows_its_wait_and_the_micro_batch_that_it_shared(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            session = await client.session()
            model = await client.model(session)
            passed = Passed(cycle=7, queue_seconds=0.0, batch_fill=0.5, device_seconds=0.25)
            outcome = await client.service.futures.expect(f"{model}:0")
            entry = Entry(model, 1, "forward_backward", b"", 0)
            await client.service.journal.accept(entry)
            await client.service.journal.finish(entry, outcome, passed=passed)
            link = await client.get(f"sessions/{session}/trace_export")
            events = (await client.http.get(link["url"])).json()["traceEvents"]
            mine = [(e["name"], e["ph"]) for e in events if e.get("id") == entry.request_id]
            whole = "forward_backward"
            inner = [("wait", "b"), ("wait", "e"), ("compute", "b"), ("compute", "e")]
            assert mine == [(whole, "b"), *inner, (whole, "e")]
            times = [event["ts"] for event in events if event.get("id") == entry.request_id]
            assert times == sorted(times)
            (computed,) = (e for e in events if e["name"] == "compute" and e["ph"] == "b")
            assert computed["args"] == asdict(passed)
            page = (await client.http.get("/metrics")).text
            assert 'hone_pass_batch_fill_bucket{le="0.5"}' in page
            assert "hone_pass_device_seconds_total{}" in page
            assert "hone_pass_queue_seconds_count{}" in page

    asyncio.run(run())


def test_a_session_without_operations_has_an_empty_trace(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            link = await client.get(f"sessions/{await client.session()}/trace_export")
            trace = (await client.http.get(link["url"])).json()
            assert [event["ph"] for event in trace["traceEvents"]] == ["M"]

    asyncio.run(run())
