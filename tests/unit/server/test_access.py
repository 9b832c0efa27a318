"""Another tenant's things are 404 on every route of the application, also on those that are added later."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, select
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount, Route

from hone.server.access import NAMES, PATHS
from hone.server.app import create_app
from hone.storage.tables import metadata
from tests.support.service import KEY, MODEL, Client, forward_backward, serving
from tests.support.tenants import as_key, make_key

pytestmark = pytest.mark.usefixtures("any_database")

NAMELESS = {
    "/healthz",
    "/readyz",
    "/metrics",
    "/api/v1/healthz",
    "/api/v1/engine",
    "/api/v1/client/config",
    "/api/v1/client/dynamic_config",
    "/api/v1/get_server_capabilities",
    "/api/v1/auth/apikey/me",
    "/api/v1/auth/token",
    "/oai/api/v1/models",
}
"""They name nothing and show nothing that anybody owns."""
LISTS = {
    "/api/v1/sessions",
    "/api/v1/training_runs",
    "/api/v1/checkpoints",
    "/api/v1/billing/usage/events",
    "/api/v1/billing/usage/checkpoints/current",
    "/api/v1/audit",
}
"""They show only what belongs to the caller; see below."""
SIGNED = {"/api/v1/downloads/{token}/{file}", "/api/v1/traces/{token}"}
"""A signature takes the place of the key."""
PUBLIC = "/hf/"
"""Tokenizers, for everybody."""


def every_route(app: Starlette) -> Iterator[tuple[str, str]]:
    def walk(routes: list[BaseRoute], prefix: str) -> Iterator[tuple[str, str]]:
        for route in routes:
            if isinstance(route, Mount):
                yield from walk(route.routes, prefix + route.path)
            else:
                assert isinstance(route, Route)
                for method in sorted((route.methods or set()) - {"HEAD"}):
                    yield method, prefix + route.path

    yield from walk(app.routes, "")


async def belongings(client: Client) -> dict[str, str]:
    """One of everything, by the names that routes and bodies use."""
    session = await client.session()
    model = await client.model(session)
    saved = await client.post("save_weights", {"model_id": model, "seq_id": 1, "path": "one"})
    path = (await client.result(saved["request_id"]))["path"]
    sampler = await client.post(
        "create_sampling_session", {"session_id": session, "sampling_session_seq_id": 0, "base_model": MODEL}
    )
    return {
        "session_id": session,
        "model_id": model,
        "run_id": model,
        "sampler_id": sampler["sampling_session_id"],
        "sampling_session_id": sampler["sampling_session_id"],
        "request_id": saved["request_id"],
        "kind": "weights",
        "name": "one",
        "path": path,
        "model_path": path,
        "tinker_path": path,
        "source_path": path,
        "model": path,
    }


async def ask(http: httpx.AsyncClient, method: str, path: str, body: dict[str, Any]) -> httpx.Response:
    return await http.request(method, path, **({} if method == "GET" else {"json": body}))


def test_every_route_hides_what_belongs_to_others(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            mine = await belongings(client)
            _, text = await make_key(client, "stranger", "elsewhere")
            checked = 0
            async with as_key(client, text) as stranger:
                for method, path in every_route(create_app(client.service)):
                    if path in NAMELESS | LISTS | SIGNED or path.startswith(PUBLIC):
                        continue
                    filled = path.replace("{model:path}", mine["model"]).format(**mine)
                    if path.endswith("/forward_backward"):
                        content = forward_backward(mine["model_id"], 2).SerializeToString()
                        answers = [await stranger.post(filled, content=content)]
                    elif filled != path:
                        answers = [await ask(stranger, method, filled, {})]
                    else:
                        target = {"target": {"type": "sampling_session", "sampling_session_id": mine["sampler_id"]}}
                        bodies = [*({name: mine[name]} for name in (*NAMES, *PATHS)), target]
                        answers = [await ask(stranger, method, path, body) for body in bodies]
                    for answer in answers:
                        assert answer.status_code == 404, (method, path, answer.status_code, answer.text)
                        checked += 1
            assert checked > 100
            run_id = mine["run_id"]
            assert (await client.get(f"training_runs/{run_id}"))["training_run_id"] == run_id
            assert len((await client.get("checkpoints"))["checkpoints"]) == 1

    asyncio.run(run())


def test_lists_hold_what_is_the_callers_and_the_owner_sees_everything(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            await belongings(client)
            _, text = await make_key(client, "stranger", "elsewhere")
            hours = "?starting_on=2020-01-01T00:00:00Z&ending_before=2020-01-02T00:00:00Z"
            async with as_key(client, text) as stranger:
                for path, name in (
                    ("sessions", "sessions"),
                    ("training_runs", "training_runs"),
                    ("checkpoints", "checkpoints"),
                    ("billing/usage/checkpoints/current", "data"),
                    (f"billing/usage/events{hours}", "data"),
                ):
                    answer = await stranger.get(f"/api/v1/{path}")
                    assert (answer.status_code, answer.json()[name]) == (200, []), path
                found = await stranger.post("/api/v1/sessions/search", json={"owner": {"type": "accessible"}})
                assert found.json() == {"sessions": [], "next_cursor": None}
                assert (await stranger.get("/api/v1/audit")).status_code == 403
                assert (await stranger.get("/api/v1/training_runs?project_id=default")).status_code == 404
                made = await stranger.post("/api/v1/create_session", json={"project_id": "default"})
                assert made.status_code == 404
                theirs = (await stranger.post("/api/v1/create_session", json={})).json()["session_id"]
            assert theirs in (await client.get("sessions"))["sessions"], "the server's key reaches its organization"

    asyncio.run(run())


def test_what_is_published_is_everybodys_to_read_and_nobody_elses_to_change(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            mine = await belongings(client)
            of_run = f"/api/v1/training_runs/{mine['run_id']}/checkpoints/weights/one"
            assert (await client.http.post(f"{of_run}/publish")).status_code == 204
            _, text = await make_key(client, "stranger", "elsewhere")
            async with as_key(client, text) as stranger:
                info = await stranger.post("/api/v1/weights_info", json={"tinker_path": mine["path"]})
                assert info.status_code == 200
                for method, path in (("DELETE", of_run), ("DELETE", f"{of_run}/publish"), ("PUT", f"{of_run}/ttl")):
                    assert (await stranger.request(method, path, json={"ttl_seconds": 4000})).status_code == 404

    asyncio.run(run())


def test_a_copy_may_bring_the_credential_that_reads_its_source(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            mine = await belongings(client)
            _, text = await make_key(client, "stranger", "elsewhere")
            async with as_key(client, text) as stranger:
                body = {"source_path": mine["path"], "destination_project_id": "elsewhere"}
                tries = [(None, 404), (text, 404), ("tml-wrong", 400), (KEY, 200)]
                for token, status in tries:
                    headers = {"X-Tinker-Weights-Access-Token": token} if token else {}
                    answer = await stranger.post("/api/v1/copy_weights", json=body, headers=headers)
                    assert answer.status_code == status, answer.text
                info = await stranger.post("/api/v1/weights_info", json=answer.json())
                assert info.status_code == 200

    asyncio.run(run())


def everything(connection: Connection) -> list[Any]:
    """All rows of all tables."""
    return [row for table in metadata.sorted_tables for row in connection.execute(select(table))]


def test_a_model_may_start_from_the_checkpoint_of_whoever_gave_a_credential(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            mine = await belongings(client)
            _, text = await make_key(client, "stranger", "elsewhere")
            async with as_key(client, text) as stranger:
                session = (await stranger.post("/api/v1/create_session", json={})).json()["session_id"]
                body = {"session_id": session, "model_seq_id": 0, "path": mine["path"], "optimizer": True}
                for token, status in ((None, 404), (text, 404), ("tml-wrong", 400), (7, 400), (KEY, 200)):
                    answer = await stranger.post("/api/v1/load_weights", json=body | {"weights_access_token": token})
                    assert answer.status_code == status, answer.text
                loaded = await stranger.post("/api/v1/retrieve_future", json=answer.json())
                assert loaded.json()["model_id"] == f"{session}:train:0"
                again = await stranger.post("/api/v1/load_weights", json=body | {"weights_access_token": KEY})
                assert again.json() == answer.json(), "a repeated request is the same one"
            # The credential opens this one path, and is written down nowhere.
            _, limited_text = await make_key(client, "limited", "elsewhere", models=["another"])
            async with as_key(client, limited_text) as limited:
                body |= {"model_seq_id": 1, "weights_access_token": KEY}
                assert (await limited.post("/api/v1/load_weights", json=body)).status_code == 403
                info = {"tinker_path": mine["path"], "weights_access_token": KEY}
                assert (await limited.post("/api/v1/weights_info", json=info)).status_code == 404
            assert KEY not in repr(await client.service.database.run(everything))
            assert mine["run_id"] in repr(await client.service.database.run(everything))

    asyncio.run(run())


def test_two_tenants_may_use_the_same_idempotency_key(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            _, text = await make_key(client, "stranger", "elsewhere")
            headers = {"X-Idempotency-Key": "same"}
            async with as_key(client, text) as stranger:
                made = [
                    (await http.post("/api/v1/create_session", json={}, headers=headers)).json()["session_id"]
                    for http in (client.http, stranger, client.http)
                ]
            assert made[0] == made[2] != made[1]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("scopes", "allowed", "refused"),
    [
        (["read"], ["GET sessions"], ["POST create_model", "POST asample", "GET audit"]),
        (["sample"], ["POST create_session"], ["POST create_model", "GET sessions", "POST save_weights"]),
        (["train"], ["POST create_session"], ["POST asample", "GET sessions"]),
    ],
)
def test_scopes(tmp_path: Path, scopes: list[str], allowed: list[str], refused: list[str]) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            _, text = await make_key(client, "limited", scopes=scopes)
            async with as_key(client, text) as limited:
                for request in allowed:
                    method, path = request.split()
                    assert (await limited.request(method, f"/api/v1/{path}", json={})).status_code == 200
                for request in refused:
                    method, path = request.split()
                    answer = await limited.request(method, f"/api/v1/{path}", json={})
                    assert answer.status_code == 403, request
                    assert "needs a key with the scope" in answer.json()["detail"]

    asyncio.run(run())


def test_a_key_for_some_models_starts_no_others(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            session = await client.session()
            _, text = await make_key(client, "limited", models=["another"])
            async with as_key(client, text) as limited:
                capabilities = await limited.get("/api/v1/get_server_capabilities")
                assert capabilities.json() == {"supported_models": []}
                body = {"session_id": session, "model_seq_id": 0, "base_model": MODEL}
                answer = await limited.post("/api/v1/create_model", json=body)
                assert answer.status_code == 403
                assert MODEL in answer.json()["detail"]

    asyncio.run(run())


def test_a_session_moves_with_everything_in_it(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            mine = await belongings(client)
            _, text = await make_key(client, "colleague", "team")
            move = f"/api/v1/sessions/{mine['session_id']}/project"
            assert (await client.http.put(move, json={"project_id": "nowhere"})).status_code == 404
            async with as_key(client, text) as colleague:
                assert (await colleague.get(f"/api/v1/training_runs/{mine['run_id']}")).status_code == 404
                assert (await client.http.put(move, json={"project_id": "team"})).status_code == 204
                assert (await colleague.get(f"/api/v1/training_runs/{mine['run_id']}")).status_code == 200
                assert len((await colleague.get("/api/v1/checkpoints")).json()["checkpoints"]) == 1

    asyncio.run(run())


def test_while_there_is_one_key_naming_a_project_makes_it(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            await client.post("create_session", {"project_id": "research"})
            assert len((await client.get("sessions"))["sessions"]) == 1
            await make_key(client, "second")
            await client.post("create_session", {"project_id": "other"}, status=404)
            await client.post("create_session", {"project_id": "research"})

    asyncio.run(run())
