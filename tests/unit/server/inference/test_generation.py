"""Direct samples against an engine that can be slow and can end."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

import hone
from hone.engine.contract import BaseModel, Sample
from hone.errors import UserError
from hone.server import usage
from tests.support.service import KEY, MODEL, Client, LiveServer, serving
from tests.support.tenants import as_key, make_key
from tests.support.uniform_engine import UniformEngine

pytestmark = pytest.mark.usefixtures("any_database")

TINY = str(Path(hone.__file__).parent / "assets" / "tiny")
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "seed": 1, "max_tokens": 20}


def engine(**fields: Any) -> UniformEngine:
    """It knows no words, but its model has a tokenizer."""
    return UniformEngine({MODEL: BaseModel(MODEL, TINY, "Uniform", 256, 50, 0)}, **fields)


@asynccontextmanager
async def inference(root: Path) -> AsyncIterator[Client]:
    async with serving(root, engine()) as client:
        yield client


async def chat(client: Client, **fields: Any) -> Any:
    return await client.http.post("/oai/api/v1/chat/completions", json=CHAT | fields)


def told(text: str) -> str:
    """The content of a stream of chunks."""
    chunks = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    return "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])


@pytest.mark.parametrize("stream", [False, True])
def test_a_lost_engine_costs_neither_tokens_nor_the_request(tmp_path: Path, stream: bool) -> None:
    async def run() -> None:
        async with inference(tmp_path) as client:
            expected = (await chat(client)).json()["choices"][0]["message"]["content"]
            client.engine.slow = 0.01
            asking = asyncio.create_task(chat(client, stream=stream))
            while not (client.engine.streaming or len(client.engine.submitted) > 1):
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.05 if stream else 0)
            client.engine.die()
            answer = await asking
            content = told(answer.text) if stream else answer.json()["choices"][0]["message"]["content"]
            assert content == expected
            assert client.engine.restarts == 1

    asyncio.run(run())


def test_a_client_that_leaves_stops_the_sampling(tmp_path: Path) -> None:
    with LiveServer(tmp_path, engine(slow=0.05)) as server:
        with (
            httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {KEY}"}) as http,
            http.stream("POST", "/oai/api/v1/chat/completions", json=CHAT | {"stream": True, "stop": "zz"}) as answer,
        ):
            lines = answer.iter_lines()  # kept: httpx closes the answer with it
            assert next(lines).startswith("data: {")
            assert server.engine.streaming == 1
        for _ in range(60):
            if server.engine.streaming:
                time.sleep(0.01)
        assert not server.engine.streaming, "the engine still draws for nobody"


def test_a_checkpoint_belongs_to_its_base_model(tmp_path: Path) -> None:
    async def run() -> None:
        async with inference(tmp_path) as client:
            client.engine.models["other/model"] = BaseModel("other/model", "/elsewhere", "Uniform", 256, 50, 0)
            client.engine.models["same/long"] = BaseModel("same/long", TINY, "Uniform", 512, 50, 0)
            model = await client.model(await client.session())
            saved = await client.post("save_weights_for_sampler", {"model_id": model, "seq_id": 1, "path": "a"})
            path = (await client.result(saved["request_id"]))["path"]
            target = client.service.generation.target
            assert (await target(path)).base_model == MODEL
            assert (await target(f"same/long;{path}")).base_model == "same/long"
            with pytest.raises(UserError, match="belongs to hone/uniform, not to other/model"):
                await target(f"other/model;{path}")
            answer = await chat(client, model=path)
            assert answer.status_code == 200
            (sampled,) = [one for one in client.engine.submitted if isinstance(one, Sample)]
            assert sampled.version is not None

    asyncio.run(run())


def test_what_is_drawn_is_on_the_keys_account_until_its_limit(tmp_path: Path) -> None:
    async def run() -> None:
        async with inference(tmp_path) as client:
            number, text = await make_key(client, "mine")
            async with as_key(client, text) as http:
                whole = (await http.post("/oai/api/v1/chat/completions", json=CHAT)).json()["usage"]
                await http.post("/oai/api/v1/chat/completions", json=CHAT | {"stream": True})
                await http.post("/anthropic/api/v1/messages", json={k: v for k, v in CHAT.items() if k != "seed"})
                chosen = usage.Filter(key_id=number, kinds=("prefill",))
                await asyncio.sleep(0.05)  # it is counted beside the answer
                rows = await client.service.database.run(lambda connection: usage.used(connection, chosen))
                assert sum(row.quantity for row in rows) == 3 * whole["prompt_tokens"]

                async def reached(lane: str, key_id: int | None) -> str | None:
                    return "all is spent" if key_id == number else None

                client.service.budgets.reached = reached  # type: ignore[method-assign]
                for stream in (False, True):
                    refused = await http.post("/oai/api/v1/chat/completions", json=CHAT | {"stream": stream})
                    assert (refused.status_code, refused.json()["error"]["message"]) == (403, "all is spent")

    asyncio.run(run())


def test_checkpoints_of_others_are_no_models(tmp_path: Path) -> None:
    async def run() -> None:
        async with inference(tmp_path) as client:
            model = await client.model(await client.session())
            saved = await client.post("save_weights_for_sampler", {"model_id": model, "seq_id": 1, "path": "a"})
            path = (await client.result(saved["request_id"]))["path"]
            _, text = await make_key(client, "theirs", "elsewhere")
            async with as_key(client, text) as stranger:
                listed = (await stranger.get("/oai/api/v1/models")).json()["data"]
                assert [one["id"] for one in listed] == [MODEL]
                assert (await stranger.get(f"/oai/api/v1/models/{quote(path, safe='')}")).status_code == 404
                for name in (path, f"{MODEL};{path}"):
                    for route in ("/oai/api/v1/chat/completions", "/anthropic/api/v1/messages"):
                        asked = {"model": name, "messages": CHAT["messages"], "max_tokens": 2}
                        assert (await stranger.post(route, json=asked)).status_code == 404
            listed = (await client.http.get("/oai/api/v1/models")).json()["data"]
            assert [one["id"] for one in listed] == [MODEL, path]

    asyncio.run(run())


def test_errors_have_each_clients_shape(tmp_path: Path) -> None:
    async def run() -> None:
        async with inference(tmp_path) as client:
            wrong = await client.http.post("/oai/api/v1/chat/completions", json={"model": MODEL})
            assert wrong.json()["error"] == {
                "message": "messages is missing",
                "type": "invalid_request_error",
                "param": None,
                "code": None,
            }
            wrong = await client.http.post("/anthropic/api/v1/messages", json={"model": MODEL})
            assert wrong.json()["error"]["type"] == "invalid_request_error"
            client.service.models = client.service.generation = None  # type: ignore[assignment]
            broken = await chat(client)
            assert (broken.status_code, broken.json()["error"]["type"]) == (500, "server_error")

    asyncio.run(run())
