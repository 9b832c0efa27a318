"""Requests and operations as OpenTelemetry sees them."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hone.observe import spans
from tests.support.service import MODEL, forward_backward, serving

pytestmark = pytest.mark.usefixtures("any_database")

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def exported() -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    spans.enable(provider)
    yield exporter
    spans.disable()


def of_trace(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans() if f"{span.context.trace_id:032x}" == TRACE}


def check_operation(found: dict[str, ReadableSpan], route: str, kind: str) -> ReadableSpan:
    request, operation, queue, engine = (found[name] for name in (f"POST {route}", kind, "queue", "engine"))
    assert f"{request.parent.span_id:016x}" == PARENT
    assert request.attributes["http.response.status_code"] == 200
    assert operation.parent.span_id == request.context.span_id
    assert {queue.parent.span_id, engine.parent.span_id} == {operation.context.span_id}
    assert operation.start_time == queue.start_time <= queue.end_time == engine.start_time
    assert engine.start_time < engine.end_time <= operation.end_time
    return operation


def test_a_clients_trace_goes_on_through_queue_and_engine(tmp_path: Path, exported: InMemorySpanExporter) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            session = await client.session()
            model = await client.model(session)
            client.http.headers["traceparent"] = f"00-{TRACE}-{PARENT}-01"
            request_id = await client.send(forward_backward(model, 1))
            del client.http.headers["traceparent"]
            await client.output(request_id)
            operation = check_operation(of_trace(exported), "/api/v1/forward_backward", "forward_backward")
            assert operation.attributes == {"hone.request_id": request_id, "hone.failed": False}

            exported.clear()
            made = {"session_id": session, "sampling_session_seq_id": 0, "base_model": MODEL}
            sampler = (await client.post("create_sampling_session", made))["sampling_session_id"]
            body = {
                "sampling_session_id": sampler,
                "seq_id": 0,
                "prompt": {"chunks": [{"type": "encoded_text", "tokens": [1, 2, 3]}]},
                "sampling_params": {"max_tokens": 5, "stop": []},
            }
            client.http.headers["traceparent"] = f"00-{TRACE}-{PARENT}-01"
            sent = await client.post("asample", body)
            del client.http.headers["traceparent"]
            await client.result(sent["request_id"])
            check_operation(of_trace(exported), "/api/v1/asample", "sample")
            assert spans._under_way == {}

    asyncio.run(run())


def test_what_fails_says_so_and_paths_without_a_route_share_a_name(
    tmp_path: Path, exported: InMemorySpanExporter
) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            model = await client.model(await client.session())
            submitted = await client.post("optim_step", {"model_id": model, "seq_id": 1})
            assert "error" in await client.result(submitted["request_id"])
            await client.http.get("/nowhere/at/all")
        found = {span.name: span for span in exported.get_finished_spans()}
        assert found["optim_step"].attributes["hone.failed"] is True
        assert not found["optim_step"].status.is_ok
        assert found["GET none"].attributes["http.response.status_code"] == 404

    asyncio.run(run())


def test_off_the_library_is_not_even_loaded() -> None:
    code = (
        "import sys, hone.cli.serve, hone.server.app, hone.server.service\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
