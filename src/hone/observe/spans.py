"""OpenTelemetry spans: of requests, and of the operations that they start, from acceptance through queue and engine.

Off until `enable`; then every hook here is one look at a variable, and the library is not even imported. Where spans
go is said by the library's own OTEL_* variables. An operation's span continues the trace of the request that submitted
it, and so the trace of a client that sends `traceparent`.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hone.errors import UserError

_tracer: Any = None
_under_way: "dict[str, _Operation]" = {}
"""By request id. Belongs to the event loop, as all hooks do."""


@dataclass
class _Operation:
    kind: str
    context: Any
    """Of the request that submitted it."""
    accepted: int
    """Nanoseconds, as all times here."""
    submitted: int | None = None
    computed: int | None = None


def enable(provider: Any = None) -> None:
    """`provider` is a TracerProvider; without one, spans are sent as OTLP over HTTP."""
    global _tracer
    try:
        _tracer = (provider or _sending()).get_tracer("hone")
    except ImportError as error:
        raise UserError(
            f"HONE_OTEL needs a package that is not there ({error.name}): pip install 'hone[otel]'"
        ) from None


def disable() -> None:
    global _tracer
    _tracer = None
    _under_way.clear()


def enabled() -> bool:
    return _tracer is not None


def _sending() -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "hone"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class RequestSpan:
    """Begins when it is made; whatever runs until `end` belongs to it."""

    def __init__(self, method: str, headers: Mapping[str, str]) -> None:
        from opentelemetry import context, propagate, trace

        self._method = method
        self._span = _tracer.start_span(method, propagate.extract(headers), kind=trace.SpanKind.SERVER)
        self._token = context.attach(trace.set_span_in_context(self._span))

    def end(self, route: str, status: int) -> None:
        from opentelemetry import context

        context.detach(self._token)
        self._span.update_name(f"{self._method} {route}")
        self._span.set_attributes(
            {"http.request.method": self._method, "http.route": route, "http.response.status_code": status}
        )
        self._span.end()


def accepted(request_id: str, kind: str) -> None:
    """An operation is in the journal; call this where its request is handled."""
    if _tracer is not None:
        from opentelemetry import context

        _under_way[request_id] = _Operation(kind, context.get_current(), time.time_ns())


def submitted(request_id: str) -> None:
    """The engine has it; once more if an engine was lost."""
    if _tracer is not None and request_id in _under_way:
        _under_way[request_id].submitted = time.time_ns()


def computed(request_id: str) -> None:
    if _tracer is not None and request_id in _under_way:
        _under_way[request_id].computed = time.time_ns()


def answered(request_id: str, failed: bool) -> None:
    """The answer is there: the spans are made, with the times that were noted."""
    operation = _under_way.pop(request_id, None)
    if _tracer is None or operation is None:
        return
    from opentelemetry import trace

    now = time.time_ns()
    attributes = {"hone.request_id": request_id, "hone.failed": failed}
    whole = _tracer.start_span(operation.kind, operation.context, attributes=attributes, start_time=operation.accepted)
    inside = trace.set_span_in_context(whole, operation.context)
    queued_until = operation.submitted or now
    _tracer.start_span("queue", inside, start_time=operation.accepted).end(queued_until)
    if operation.submitted is not None:
        _tracer.start_span("engine", inside, start_time=operation.submitted).end(operation.computed or now)
    if failed:
        whole.set_status(trace.StatusCode.ERROR)
    whole.end(now)
