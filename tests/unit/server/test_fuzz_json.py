"""Every route, asked in every wrong way: never a 500, always a reason that the client can read, and the next request
works. Bodies are valid ones with something changed, added or left out; TEST_EFFORT multiplies their number."""

import asyncio
import json
import tempfile
from collections.abc import Iterator
from copy import deepcopy
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import BaseRoute, Mount, Route

from hone.engine.contract import BaseModel
from hone.server.app import create_app
from tests.support.effort import effort
from tests.support.service import MODEL, Client, crash, forward_backward, make_service
from tests.support.uniform_engine import VOCABULARY, UniformEngine

TEXT = {"chunks": [{"type": "encoded_text", "tokens": [1, 2, 3]}]}
CHAT = [{"role": "user", "content": "What is 2 + 3?"}]
GRAPH = {"format": "none"}

BODIES: dict[str, dict[str, Any]] = {
    "POST /api/v1/client/config": {"sdk_version": "0.38.0"},
    "POST /api/v1/client/dynamic_config": {"sdk_version": "0.38.0"},
    "POST /api/v1/create_session": {"tags": ["a"], "user_metadata": {"a": "b"}, "sdk_version": "0.38.0"},
    "POST /api/v1/session_heartbeat": {"session_id": "{session}"},
    "POST /api/v1/sessions/{session_id}/finish": {"reason": {"type": "success"}, "detail": "done"},
    "POST /api/v1/sessions/search": {"display_name": "a", "limit": 5, "statuses": [{"type": "active"}]},
    "PUT /api/v1/sessions/{session_id}/project": {"project_id": "default"},
    "POST /api/v1/create_model": {
        "session_id": "{session}",
        "model_seq_id": 1,
        "base_model": MODEL,
        "lora_config": {"rank": 4, "seed": 1, "train_mlp": True},
        "optimizer_config": {"type": "adamw"},
        "user_metadata": {"a": 1},
    },
    "POST /api/v1/get_info": {"model_id": "{model}"},
    "POST /api/v1/unload_model": {"model_id": "{model}"},
    "POST /api/v1/forward": {
        "model_id": "{model}",
        "seq_id": 2,
        "forward_input": {
            "data": [
                {
                    "model_input": TEXT,
                    "loss_fn_inputs": {
                        "target_tokens": {"data": [2, 3, 4], "dtype": "int64", "shape": [3]},
                        "weights": {"data": [1.0, 0.5, 0.0], "dtype": "float32", "shape": [3]},
                    },
                }
            ],
            "loss_fn": "cross_entropy",
        },
    },
    "POST /api/v1/optim_step": {
        "model_id": "{model}",
        "seq_id": 2,
        "adam_params": {"learning_rate": 0.1, "beta1": 0.9, "eps": 1e-8, "grad_clip_norm": 1.0},
    },
    "POST /api/v1/save_weights": {"model_id": "{model}", "seq_id": 2, "path": "b", "ttl_seconds": 4000},
    "POST /api/v1/save_weights_for_sampler": {
        "model_id": "{model}",
        "seq_id": 2,
        "sampling_session_seq_id": 3,
        "kind": "snapshot",
    },
    "POST /api/v1/save_weights_external": {"model_id": "{model}", "seq_id": 2, "path": "b"},
    "POST /api/v1/copy_weights": {"source_path": "{path}", "ttl_seconds": 4000},
    "POST /api/v1/load_weights": {"model_id": "{model}", "seq_id": 2, "path": "{path}", "optimizer": True},
    "POST /api/v1/weights_info": {"tinker_path": "{path}"},
    "POST /api/v1/create_custom_loss": {
        "session_id": "{session}",
        "custom_loss_seq_id": 1,
        "name": "loss",
        "inputs": [{"name": "x", "rank": 1}],
        "graph": GRAPH,
    },
    "POST /api/v1/create_sampling_session": {
        "session_id": "{session}",
        "sampling_session_seq_id": 2,
        "base_model": MODEL,
    },
    "POST /api/v1/join_sampling_session": {"sampling_session_id": "{sampler}"},
    "POST /api/v1/asample": {
        "sampling_session_id": "{sampler}",
        "seq_id": 1,
        "num_samples": 2,
        "prompt": TEXT,
        "sampling_params": {"max_tokens": 4, "temperature": 0.5, "stop": ["a"], "top_p": 0.5, "seed": 1},
        "prompt_logprobs": True,
        "topk_prompt_logprobs": 2,
        "prompt_logprobs_last_n": 1,
        "target_prompt_logprobs": {"data": [1, 2, 3], "dtype": "int64", "shape": [3, 1]},
        "prompt_alt_tokens_k": 1,
    },
    "POST /api/v1/retrieve_future": {"request_id": "{model}:0", "allow_metadata_only": True},
    "POST /api/v1/retrieve_futures": {
        "target": {"type": "sampling_session", "sampling_session_id": "{sampler}", "cloned_sampler_id": 0},
        "prev_cursor": 0,
        "timeout": 0,
        "retrieved_request_ids": ["a"],
    },
    "POST /api/v1/cancel_future": {"request_id": "{sampler}:0"},
    "POST /api/v1/telemetry": {"events": [{"event": "GENERIC_EVENT"}], "session_id": "{session}"},
    "POST /api/v1/auth/token": {},
    "PUT /api/v1/training_runs/{run_id}/checkpoints/{kind}/{name}/ttl": {"ttl_seconds": 4000},
    "POST /api/v1/training_runs/{run_id}/checkpoints/{kind}/{name}/publish": {},
    "POST /oai/api/v1/completions": {"model": MODEL, "prompt": "a", "max_tokens": 2, "logprobs": 1, "stop": ["b"]},
    "POST /oai/api/v1/chat/completions": {"model": MODEL, "messages": CHAT, "max_tokens": 2, "n": 2, "seed": 1},
    "POST /anthropic/api/v1/messages": {"model": MODEL, "messages": CHAT, "max_tokens": 2, "system": "be brief"},
    "POST /anthropic/api/v1/messages/count_tokens": {"model": MODEL, "messages": CHAT},
}
"""A good body for each route that takes one."""

PROTOBUF = "POST /api/v1/forward_backward"


def paths(routes: list[BaseRoute], prefix: str = "") -> Iterator[str]:
    for route in routes:
        if isinstance(route, Mount):
            yield from paths(list(route.routes), prefix + route.path)
        elif isinstance(route, Route):
            yield from (f"{method} {prefix}{route.path}" for method in sorted(route.methods or ()) if method != "HEAD")


class World:
    """A service with one of everything, in a loop that only turns while somebody asks."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.runner.run(self._begin())

    async def _begin(self) -> None:
        tiny = str(Path(str(resources.files("hone"))) / "assets" / "tiny")
        engine = UniformEngine({MODEL: BaseModel(MODEL, tiny, "Uniform", 256, VOCABULARY, 0)})
        self.service = make_service(
            Path(self.folder.name), engine, gap_seconds=0.0, long_poll_seconds=2.0, jwt_auth=True
        )
        await self.service.start()
        self.client = Client(self.service, engine)
        self.seq = 0
        await self.populate()

    async def populate(self) -> None:
        """One of everything; fuzzing may finish, delete or move what was there."""
        client = self.client
        session = await client.session()
        model = await client.model(session)
        saved = await client.post("save_weights", {"model_id": model, "seq_id": 1, "path": "a"})
        path = (await client.result(saved["request_id"]))["path"]
        body = {"session_id": session, "sampling_session_seq_id": 0, "base_model": MODEL}
        sampler = (await client.post("create_sampling_session", body))["sampling_session_id"]
        self.names = {"{session}": session, "{model}": model, "{sampler}": sampler, "{path}": path}

    async def ask(self, method: str, url: str, **sent: Any) -> httpx.Response:
        return await self.client.http.request(method, url, **sent)

    async def works(self) -> None:
        """The next good request of each kind of traffic."""
        self.seq += 1
        model = await self.client.model(await self.client.session())
        assert (await self.client.output(await self.client.send(forward_backward(model, 1)))).metrics["loss:sum"] > 0

    def close(self) -> None:
        self.runner.run(self._end())
        self.runner.close()
        self.folder.cleanup()

    async def _end(self) -> None:
        await self.client.http.aclose()
        await crash(self.service)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


def all_routes() -> list[str]:
    world = World()
    try:
        return sorted(set(paths(list(create_app(world.service).routes))))
    finally:
        world.close()


ROUTES = all_routes()
FIELDS = sorted({word for body in BODIES.values() for word in body})

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([-1, 0, 1, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**40, 1e308, float("inf"), float("nan")]),
    st.sampled_from(["", "\0", "\ud800", "..", "a/b", "tinker://", "{model}", "{session}", "x" * 5000, "é🙂"]),
    st.sampled_from([[], {}, [[]], [None], {"": {}}, {"type": None}, [2**64], ["\ud800"], {"\ud800": 1}]),
    st.text(max_size=8),
    st.integers(),
    st.floats(),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=3), max_leaves=5
    ),
)


@st.composite
def spoiled(draw: st.DrawFn, body: Any) -> Any:
    """The body with up to three places changed, at any depth."""
    body = json.loads(json.dumps(body))
    for _ in range(draw(st.integers(0, 3))):
        place = body
        while isinstance(place, dict | list) and place:
            key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
                place = place[key]
                continue
            if isinstance(place, dict) and draw(st.integers(0, 3)) == 0:
                del place[key]
            else:
                place[key] = deepcopy(draw(ODD))
            break
    if draw(st.integers(0, 3)) == 0:
        body[draw(st.sampled_from(FIELDS))] = deepcopy(draw(ODD))
    return body


RAW = st.one_of(
    st.sampled_from([(b"", 1), (b"{", 1), (b"\xff\xfe", 1), (b'"\\ud800"', 1), (b"null", 1)]),
    st.sampled_from([(b"[", 100_000), (b'{"a":', 50_000), (b"9", 10_000)]),
    st.tuples(st.binary(max_size=40), st.just(1)),
)
"""Bodies as something repeated."""

WORDS = st.one_of(
    st.sampled_from(
        ["..", "%00", "\0", "\ud7ff", "-1", "x" * 3000, "weights", "sampler_weights", "external_weights", "a"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6),
)


@st.composite
def requested(draw: st.DrawFn, route: str) -> tuple[str, str, dict[str, Any]]:
    method, template = route.split()
    sent: dict[str, Any] = {}
    if method in ("POST", "PUT"):
        if draw(st.integers(0, 4)) == 0:
            sent["content"] = draw(RAW)
        else:
            sent["content"] = json.dumps(draw(spoiled(BODIES[route]))).encode(), 1
    if draw(st.integers(0, 3)) == 0:
        names = st.sampled_from(
            ["limit", "offset", "project_id", "start", "end", "before", "event", "cursor", "include"]
        )
        sent["params"] = draw(st.dictionaries(names, WORDS, max_size=2))
    if draw(st.integers(0, 9)) == 0:
        encodings = st.sampled_from(["gzip", "zstd", "br", "identity", "é".encode("latin1").decode("latin1"), ""])
        sent["headers"] = {"content-encoding": draw(encodings).encode("latin1")}
    url = ""
    for part in template.split("{"):
        name, closed, rest = part.partition("}")
        good = {
            "session_id": "{session}",
            "run_id": "{model}",
            "sampler_id": "{sampler}",
            "kind": "weights",
            "name": "a",
        }
        if closed:
            word = good.get(name.partition(":")[0], "x") if draw(st.booleans()) else draw(WORDS)
            url += word if word.startswith("{") else quote(word, safe="")
            url += rest
        else:
            url += part
    return method, url, sent


def check(route: str, answer: httpx.Response) -> None:
    assert answer.status_code < 500 or answer.status_code == 503, f"{answer.status_code} {answer.text[:2000]}"
    if answer.status_code < 400 or answer.status_code == 408:
        return
    assert int(answer.headers["content-length"]) > 0, "the official client takes an empty error for a broken proxy"
    body = answer.json()
    if "/oai/" in route:
        assert body["error"]["message"]
        assert body["error"]["type"] == "invalid_request_error"
    elif "/anthropic/" in route:
        assert body["error"]["message"]
        assert body["error"]["type"] != "api_error"
    elif "/hf/" in route:
        assert body.get("error") or body["detail"]
    elif answer.status_code != 410:
        assert body["detail"]
        assert body["category"] == "user"


@pytest.mark.parametrize("route", [route for route in ROUTES if route != PROTOBUF])
def test_no_request_breaks_the_server(world: World, route: str) -> None:
    world.runner.run(world.populate())

    @effort(8, shrink=False)
    @given(asked=requested(route))
    def ask(asked: tuple[str, str, dict[str, Any]]) -> None:
        method, url, sent = asked
        if "content" in sent:
            piece, times = sent["content"]
            sent = sent | {"content": piece * times}
        for placeholder, name in world.names.items():
            url = url.replace(placeholder, quote(name, safe=""))
            if "content" in sent:
                sent = sent | {"content": sent["content"].replace(placeholder.encode(), name.encode())}
        answer = world.runner.run(world.ask(method, url, **sent))
        check(route, answer)
        if answer.status_code == 200 and "request_id" in answer.text and "v1/retrieve" not in route:
            polled = {"request_id": answer.json()["request_id"]}
            outcome = world.runner.run(world.ask("POST", "/api/v1/retrieve_future", json=polled))
            check(route, outcome)
            if outcome.status_code == 200 and b'"category"' in outcome.content[:100_000]:
                assert outcome.json()["category"] == "user", outcome.text[:2000]

    ask()
    world.runner.run(world.works())


@pytest.mark.parametrize("route", sorted(BODIES))
def test_the_bodies_that_are_spoiled_are_good_ones(world: World, route: str) -> None:
    """Otherwise every one of them would be refused for the same reason."""
    assert route in ROUTES
    world.runner.run(world.populate())
    method, url = route.split()
    named = {"{session_id}": "{session}", "{run_id}": "{model}", "{kind}": "weights", "{name}": "a"}
    body = json.dumps(BODIES[route])
    for placeholder, name in (named | world.names).items():
        url, body = url.replace(placeholder, name), body.replace(placeholder, name)
    answer = world.runner.run(world.ask(method, url, content=body))
    assert answer.status_code in (200, 204), answer.text


def test_every_route_with_a_body_is_fuzzed() -> None:
    with_body = {route for route in ROUTES if route.split()[0] in ("POST", "PUT")}
    assert with_body == {*BODIES, PROTOBUF}
