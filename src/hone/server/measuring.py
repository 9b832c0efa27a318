"""Counts every request, times it and, where spans are wanted, gives it one; by the route that answered."""

import time
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hone.observe import spans
from hone.observe.metrics import REQUEST_SECONDS, REQUESTS

NO_ROUTE = "none"
"""One name for all paths that lead nowhere: a label must not have as many values as there are wrong URLs."""


class Measuring:
    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        self._paths = dict(_paths("", routes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500
        span = spans.RequestSpan(scope["method"], Headers(scope=scope)) if spans.enabled() else None

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            route = self._paths.get(scope.get("endpoint"), NO_ROUTE)
            REQUESTS.add(route=route, status=str(status))
            REQUEST_SECONDS.observe(time.perf_counter() - started, route=route)
            if span is not None:
                span.end(route, status)


def _paths(prefix: str, routes: Iterable[BaseRoute]) -> Iterable[tuple[object, str]]:
    """The path of every endpoint, the same for all values of its parameters."""
    for route in routes:
        if isinstance(route, Mount):
            yield from _paths(prefix + route.path, route.routes)
        elif isinstance(route, Route):
            yield route.endpoint, prefix + route.path
