"""Keys and the tokens made from them."""

import asyncio
import json
import time
from pathlib import Path

import pytest
import tinker

from hone.client.connect import service_client
from hone.identity import accounts
from hone.server import ids
from hone.server.auth import TOKEN_PURPOSE, required_scope
from tests.support.service import KEY, MODEL, LiveServer, serving
from tests.support.tenants import as_key, make_key

pytestmark = pytest.mark.usefixtures("any_database")


def test_the_callers_own_key(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            number, text = await make_key(client, "laptop", user_id="ann@example.org", note="mine")
            async with as_key(client, text) as laptop:
                assert (await laptop.get("/api/v1/auth/apikey/me")).json() == {
                    "key_id": number,
                    "name": "laptop",
                    "note": "mine",
                    "details": {"org_details": {"name": "local"}, "user_details": {"email": "ann@example.org"}},
                }
                assert (await laptop.delete("/api/v1/auth/apikey/me")).status_code == 204
                assert (await laptop.get("/api/v1/auth/apikey/me")).status_code == 401
            assert (await client.http.delete("/api/v1/auth/apikey/me")).status_code == 400
            assert (await client.get("auth/apikey/me"))["key_id"] == 1

    asyncio.run(run())


def test_no_key_a_wrong_one_and_one_that_is_over(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            _, late = await make_key(client, "late", expires_at=time.time() - 1)
            for headers in ({}, {"X-API-Key": ""}, {"X-API-Key": "tml-other"}, {"X-API-Key": late}):
                async with as_key(client, "") as nobody:
                    nobody.headers.clear()
                    answer = await nobody.get("/api/v1/sessions", headers=headers)
                    assert answer.status_code == 401
                    assert answer.json()["detail"]
                    assert late not in answer.text

    asyncio.run(run())


def test_a_revoked_key_ends_within_seconds_also_when_another_process_revokes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hone.server.auth.KEY_SECONDS", 0.1)

    async def run() -> None:
        async with serving(tmp_path) as client:
            number, text = await make_key(client, "lost")
            async with as_key(client, text) as lost:
                assert (await lost.get("/api/v1/sessions")).status_code == 200
                await client.service.database.run(lambda connection: accounts.revoke_key(connection, number))
                await asyncio.sleep(0.15)
                assert (await lost.get("/api/v1/sessions")).status_code == 401

    asyncio.run(run())


def test_the_server_key_may_change_and_the_old_one_ends(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            await client.service.database.run(lambda connection: accounts.set_server_key(connection, "tml-new"))
            client.service.keys.forget()
            assert (await client.http.get("/api/v1/sessions")).status_code == 401
            async with as_key(client, "tml-new") as new:
                assert (await new.get("/api/v1/auth/apikey/me")).json()["key_id"] == 1

    asyncio.run(run())


def test_tokens_are_off_unless_wanted(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            await client.post("auth/token", {}, status=404)
            token = client.service.keys.token(await client.service.keys.caller(KEY))
            async with as_key(client, token) as holder:
                assert (await holder.get("/api/v1/sessions")).status_code == 401

    asyncio.run(run())


def test_the_official_client_with_tokens(tmp_path: Path) -> None:
    with (
        LiveServer(tmp_path, jwt_auth=True) as server,
        service_client(server.url, KEY) as client,
    ):
        assert client.create_lora_training_client(MODEL, rank=4).result().model_id
        me = tinker.RestClient(base_url=server.url, api_key=KEY).whoami().result()
        assert me.user_urn == "tml:organization_user:local"
        assert me.email == "local@localhost"


def test_a_token_that_is_over_or_altered_asks_for_a_new_one(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, jwt_auth=True) as client:
            good = (await client.post("auth/token", {}))["jwt"]
            signer = client.service.signer
            over = signer.sign(TOKEN_PURPOSE, {"key_id": 1}, -1)
            other = signer.sign("trace", {"key_id": 1}, 60)
            head, body, signature = good.split(".")
            for token in (over, other, f"{head}.{body}.{signature[::-1]}", f"{head}.{body}x.{signature}", "eyJ"):
                async with as_key(client, token) as holder:
                    answer = await holder.get("/api/v1/sessions")
                    assert answer.status_code == 401
                    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
            async with as_key(client, good) as holder:
                assert (await holder.get("/api/v1/sessions")).status_code == 200

    asyncio.run(run())


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/api/v1/sessions", "read"),
        ("POST", "/api/v1/sessions/search", None),
        ("PUT", "/api/v1/sessions/x/project", "train"),
        ("DELETE", "/api/v1/training_runs/x/checkpoints/weights/a", "train"),
        ("DELETE", "/api/v1/training_runs/x/checkpoints/weights/search", "train"),
        ("POST", "/api/v1/sessions/x/finish", None),
        ("POST", "/api/v1/retrieve_future", None),
        ("POST", "/oai/api/v1/chat/completions", "sample"),
        ("GET", "/api/v1/audit", "admin"),
    ],
)
def test_what_a_request_needs(method: str, path: str, scope: str | None) -> None:
    assert required_scope(method, path) == scope


def test_keys_are_nowhere_in_the_data_directory(tmp_path: Path) -> None:
    async def run() -> str:
        async with serving(tmp_path) as client:
            return (await make_key(client, "secret"))[1]

    text = asyncio.run(run())
    for file in tmp_path.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert text.encode() not in content, file
            assert KEY.encode() not in content, file


def test_the_audit_log(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            number, _ = await make_key(client, "one", "team")
            await client.service.database.run(lambda connection: accounts.revoke_key(connection, number))
            model = await client.model(await client.session())
            saved = await client.post("save_weights", {"model_id": model, "seq_id": 1, "path": "kept"})
            path = (await client.result(saved["request_id"]))["path"]
            one = f"/api/v1/training_runs/{model}/checkpoints/weights/kept"
            await client.http.post(f"{one}/publish")
            await client.http.delete(f"{one}/publish")
            await client.http.put(f"{one}/ttl", json={"ttl_seconds": 4000})
            copied = (await client.post("copy_weights", {"source_path": path}))["tinker_path"]
            await client.http.delete(one)
            await client.http.put(f"/api/v1/sessions/{ids.session_of(model)}/project", json={"project_id": "team"})
            await client.service.database.run(lambda connection: accounts.set_budget(connection, "team", 5.0))
            await client.service.database.run(lambda connection: accounts.set_spend_limit(connection, number, 5.0))
            entries = (await client.get("audit"))["entries"]
            assert [entry["event"] for entry in entries] == [
                "key_create",
                "project_create",
                "key_create",
                "key_revoke",
                "checkpoint_create",
                "checkpoint_publish",
                "checkpoint_unpublish",
                "checkpoint_ttl_set",
                "checkpoint_create",
                "checkpoint_delete",
                "session_project_set",
                "project_budget_set",
                "key_limit_set",
            ]
            (moved,) = [entry["event_details"] for entry in entries if entry["event"] == "session_project_set"]
            assert (moved["from_project_id"], moved["project_id"]) == ("default", "team")
            about = (await client.get("audit?event_type=checkpoints"))["entries"]
            assert {entry["tinker_path"] for entry in about} == {path, copied}
            assert {entry["event_details"]["key_id"] for entry in about} == {1}
            assert (await client.get("audit?day=2020-01-01"))["entries"] == []
            for query in ("day=x", "event_type=x"):
                assert (await client.http.get(f"/api/v1/audit?{query}")).status_code == 400
            assert json.dumps(entries).count("tml-") == 0

    asyncio.run(run())


def test_the_official_client_reads_the_audit_log(tmp_path: Path) -> None:
    with LiveServer(tmp_path) as server:
        entries = tinker.AdminClient(base_url=server.url, api_key=KEY).get_audit_log("organizations").result().entries
        assert [entry.event for entry in entries] == ["key_create"]
