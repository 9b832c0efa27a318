"""A service to test against: in the test's own event loop without a network, or in a thread on a real loopback port."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np

from hone.paths import DataDirectory
from hone.protocol.proto import tinker_public_pb2 as wire
from hone.server.app import create_app
from hone.server.service import Service
from hone.server.web import WebServer
from hone.settings import Settings
from tests.support import databases
from tests.support.uniform_engine import UniformEngine

T = TypeVar("T")

KEY = "tml-test"
MODEL = "hone/uniform"


def make_service(root: Path, engine: UniformEngine, **settings: Any) -> Service:
    data = DataDirectory(root)
    data.make()
    settings.setdefault("database_url", databases.current.url(root))
    return Service(engine, data, Settings(api_key=KEY, publish_tokenizers=False, **settings))


class Client:
    """Speaks the wire protocol by hand, so that tests can send what the official client never would."""

    def __init__(self, service: Service, engine: UniformEngine) -> None:
        self.service = service
        self.engine = engine
        transport = httpx.ASGITransport(create_app(service), raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://server", headers={"X-API-Key": KEY})

    async def post(self, path: str, body: dict[str, Any], status: int = 200) -> dict[str, Any]:
        response = await self.http.post(f"/api/v1/{path}", json=body)
        assert response.status_code == status, response.text
        return response.json() if response.content else {}

    async def get(self, path: str) -> Any:
        response = await self.http.get(f"/api/v1/{path}")
        assert response.status_code == 200, response.text
        return response.json()

    async def send(self, message: wire.ForwardBackwardRequest) -> str:
        response = await self.http.post("/api/v1/forward_backward", content=message.SerializeToString())
        assert response.status_code == 200, response.text
        return str(response.json()["request_id"])

    async def result(self, request_id: str) -> Any:
        """The answer: JSON as a dict, protobuf as bytes."""
        response = await self.http.post("/api/v1/retrieve_future", json={"request_id": request_id})
        assert response.status_code == 200, response.text
        return response.content if "protobuf" in response.headers["content-type"] else response.json()

    async def output(self, request_id: str) -> wire.ForwardBackwardOutput:
        content = await self.result(request_id)
        assert isinstance(content, bytes), content
        return wire.ForwardBackwardOutput.FromString(content)

    async def session(self) -> str:
        return str((await self.post("create_session", {"tags": [], "sdk_version": "0.38.0"}))["session_id"])

    async def model(self, session: str, seq: int = 0, **fields: Any) -> str:
        body = {"session_id": session, "model_seq_id": seq, "base_model": MODEL, "lora_config": {"rank": 4, "seed": 7}}
        answer = await self.result((await self.post("create_model", body | fields))["request_id"])
        assert "error" not in answer, answer
        return str(answer["model_id"])

    async def step(self, model: str, seq: int, learning_rate: float = 1e-3) -> str:
        body = {"model_id": model, "seq_id": seq, "adam_params": {"learning_rate": learning_rate}}
        return str((await self.post("optim_step", body))["request_id"])


@asynccontextmanager
async def serving(root: Path, engine: UniformEngine | None = None, **settings: Any) -> AsyncIterator[Client]:
    engine = engine or UniformEngine()
    service = make_service(root, engine, **settings)
    await service.start()
    client = Client(service, engine)
    try:
        async with client.http:
            yield client
    finally:
        await service.stop()


async def crash(service: Service) -> None:
    """End a service as a killed process would: nothing is finished, nothing is told to anybody."""
    await service.sessions.stop()
    await service.samples.stop()
    await service.jobs.stop()
    for lane in service.worker._lanes.values():
        await lane.stop()
    for task in (service._pruning, service._sweeping):
        if task is not None:
            task.cancel()
    await service.keeper.close()
    service.database.close()


def window() -> tuple[str, str]:
    """The present hour and its neighbours, to ask for a bill, so that no test depends on the minute."""
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    return (hour - timedelta(hours=1)).isoformat(), (hour + timedelta(hours=2)).isoformat()


def datum_message(tokens: list[int], **inputs: Any) -> wire.Datum:
    """A datum whose targets are its tokens shifted by one, unless given."""
    datum = wire.Datum()
    datum.model_input.add().encoded_text.tokens = np.asarray(tokens, np.int32).tobytes()
    for name, values in ({"target_tokens": [*tokens[1:], 1]} | inputs).items():
        array = np.asarray(values, np.int64 if name == "target_tokens" else np.float32)
        tensor = datum.loss_fn_inputs[name]
        tensor.dense = array.tobytes()
        tensor.dtype = wire.DTYPE_INT64 if name == "target_tokens" else wire.DTYPE_FLOAT32
        tensor.shape.extend(array.shape)
    return datum


def forward_backward(model: str, seq: int, *data: wire.Datum, **fields: Any) -> wire.ForwardBackwardRequest:
    fields.setdefault("loss_fn", "cross_entropy")
    return wire.ForwardBackwardRequest(
        model_id=model, seq_id=seq, data=data or [datum_message([1, 2, 3], weights=[1, 1, 1])], **fields
    )


class LiveServer:
    """A service behind a real port, in a thread with its own event loop; for the official client."""

    def __init__(self, root: Path, engine: UniformEngine | None = None, port: int = 0, **settings: Any) -> None:
        self.engine = engine or UniformEngine()
        self._root = root
        self._settings = settings
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="live server")

    def __enter__(self) -> "LiveServer":
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._stopping.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    def call(self, function: Any, *arguments: Any) -> None:
        """Call in the server's event loop."""
        self._loop.call_soon_threadsafe(function, *arguments)

    def run(self, make: Callable[[], Awaitable[T]]) -> T:
        """Await something in the server's event loop."""

        async def work() -> T:
            return await make()

        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(20)

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        self.service = make_service(self._root, self.engine, **self._settings)
        await self.service.start()
        with self._listener:
            async with WebServer(create_app(self.service), self._listener):
                self._ready.set()
                await self._stopping.wait()
                self.service.futures.release()
            await self.service.stop()
