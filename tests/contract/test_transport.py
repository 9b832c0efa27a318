"""Section 2: transport, headers, keys, tokens."""

import base64
import json
import time
from pathlib import Path

import httpx
import pytest
import tinker

from hone.client.connect import service_client
from hone.client.embedded import ServerInfo
from tests.contract.conftest import Cli, executable_of, wire_of
from tests.contract.material import Material, datum, forward

# 2.1 transport

REFUSED = {
    "no JSON": ("create_session", b"{"),
    "no object": ("create_session", b"[1]"),
    "a wrong type": ("create_session", b'{"tags": 3}'),
    "a missing field": ("get_info", b"{}"),
    "no protobuf": ("forward_backward", b"\xff\xff"),
    "no number": ("optim_step", b'{"model_id": "x:train:0"}'),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_400_says_why_in_a_body_of_known_length(wire: httpx.Client, case: str) -> None:
    """The SDK takes one without for a broken proxy, and repeats the request for minutes."""
    path, body = REFUSED[case]
    response = wire.post(path, content=body)
    assert response.status_code == 400
    assert int(response.headers["content-length"]) == len(response.content) > 0
    assert response.headers["content-type"] == "application/json"
    assert response.json()["detail"]


def test_what_is_no_endpoint_is_404(wire: httpx.Client) -> None:
    response = wire.post("no_such_endpoint", json={})
    assert response.status_code == 404
    assert "no_such_endpoint" in response.json()["detail"]


def test_fields_of_newer_clients_are_ignored(wire: httpx.Client) -> None:
    assert wire.post("create_session", json={"tags": [], "field_of_tomorrow": 1}).json()["session_id"]


def test_bodies_may_be_compressed(server: ServerInfo, base_model: str, material: Material) -> None:
    results = []
    for compress in (False, True):
        with service_client(server.url, server.api_key) as client:
            config = client.holder._client_config
            client.holder._client_config = config.model_copy(update={"proto_compress_fwdbwd": compress})
            training = client.create_lora_training_client(base_model, rank=4, seed=7).result()
            results.append(forward(training, [datum(material.sequence())]).tolist())
    assert results[0] == results[1]


def test_another_encoding_is_415(wire: httpx.Client) -> None:
    response = wire.post("forward_backward", content=b"", headers={"Content-Encoding": "br"})
    assert response.status_code == 415
    assert "zstd" in response.json()["detail"]


# 2.2 headers


def test_one_idempotency_key_makes_one_session(wire: httpx.Client) -> None:
    ids = [
        wire.post("create_session", json={"tags": []}, headers={"X-Idempotency-Key": key}).json()["session_id"]
        for key in ("a-1", "a-1", "a-2")
    ]
    assert ids[0] == ids[1] != ids[2]


def test_headers_of_the_users_own_do_no_harm(server: ServerInfo) -> None:
    mine = {"X-Mine": "yes"}
    with tinker.ServiceClient(base_url=server.url, api_key=server.api_key, default_headers_overrides=mine) as client:
        assert client.create_sampling_client(base_model=server.models[0]).result().get_base_model() == server.models[0]


# 2.3 keys


@pytest.mark.parametrize("headers", [{}, {"X-API-Key": "tml-nobody-has-this-one"}, {"X-API-Key": "eyJ.eyJ.x"}])
def test_without_a_key_of_this_server_everything_is_401(server: ServerInfo, headers: dict[str, str]) -> None:
    for method, path in (("POST", "client/config"), ("POST", "create_session"), ("GET", "training_runs")):
        response = httpx.request(method, f"{server.url}/api/v1/{path}", headers=headers, json={})
        assert response.status_code == 401
        assert "API key" in response.json()["detail"]


def test_a_wrong_key_is_an_authentication_error(server: ServerInfo) -> None:
    with pytest.raises(tinker.AuthenticationError, match="API key"):
        tinker.RestClient(base_url=server.url, api_key="tml-nobody-has-this-one")


def test_the_key_may_come_from_the_environment(server: ServerInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINKER_BASE_URL", server.url)
    monkeypatch.setenv("TINKER_API_KEY", server.api_key)
    assert tinker.RestClient().get_server_capabilities().result().supported_models


def test_the_key_may_come_from_a_command(tuned: ServerInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK allows it where keys are exchanged for tokens."""
    monkeypatch.setenv("TINKER_CREDENTIAL_CMD", f"echo {tuned.api_key}")
    assert tinker.RestClient(base_url=tuned.url).get_server_capabilities().result().supported_models


# 2.4 tokens


def test_the_sdk_works_with_tokens(tuned: ServerInfo) -> None:
    identity = tinker.RestClient(base_url=tuned.url, api_key=tuned.api_key).whoami().result()
    assert identity.org_urn.startswith("tml:organization:")
    assert identity.user_urn
    with service_client(tuned.url, tuned.api_key) as client:
        training = client.create_lora_training_client(tuned.models[0], rank=4).result()
        assert training.get_info().lora_rank == 4


def test_a_token_says_who_and_for_how_long(tuned: ServerInfo) -> None:
    with wire_of(tuned) as wire:
        token = wire.post("auth/token", json={}).json()["jwt"]
        assert token.startswith("eyJ")
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        assert {"exp", "iat", "sub", "org_id"} <= set(claims)
        assert claims["exp"] > time.time() + 600
        assert claims["iat"] <= time.time() + 1
        assert wire.get("training_runs", headers={"X-API-Key": token}).status_code == 200


def test_a_changed_token_asks_the_client_for_a_new_one(tuned: ServerInfo) -> None:
    with wire_of(tuned) as wire:
        head, payload, signature = wire.post("auth/token", json={}).json()["jwt"].split(".")
        forged = f"{head}.{payload}.{signature[::-1]}"
        response = wire.get("training_runs", headers={"X-API-Key": forged})
        assert response.status_code == 401
        assert 'error="invalid_token"' in response.headers["www-authenticate"]


def test_with_plain_keys_there_is_no_token_and_no_identity(wire: httpx.Client, rest: tinker.RestClient) -> None:
    assert wire.post("client/config", json={"sdk_version": "0.38.0"}).json()["pjwt_auth_enabled"] is False
    assert wire.post("auth/token", json={}).status_code == 404
    with pytest.raises(RuntimeError):
        rest.whoami().result()


# 2.5 the key itself


def test_a_key_can_be_looked_at(wire: httpx.Client) -> None:
    found = wire.get("auth/apikey/me").json()
    assert isinstance(found["key_id"], int)
    assert {"name", "note"} <= set(found)
    assert set(found["details"]) == {"org_details", "user_details"}
    assert found["details"]["org_details"]["name"]
    assert "email" in found["details"]["user_details"]


def test_login_keeps_a_key_and_logout_forgets_it(server: ServerInfo, tmp_path: Path) -> None:
    cli = executable_of(server, tmp_path)
    login = cli("auth", "login", text=f"{server.api_key}\n", TINKER_API_KEY=None)
    assert "Logged in as" in login
    assert "Tinker accessible: yes" in cli("auth", "status", TINKER_API_KEY=None)
    assert "The API key is still active" in cli("auth", "logout", TINKER_API_KEY=None)
    assert "Credentials available: no" in cli("auth", "status", TINKER_API_KEY=None, code=1)


def test_login_refuses_a_wrong_key(server: ServerInfo, tmp_path: Path) -> None:
    said = executable_of(server, tmp_path)("auth", "login", text="tml-wrong\n", TINKER_API_KEY=None, code=1)
    assert "API key" in said


def test_a_key_can_end_itself(tuned: ServerInfo, hone: Cli) -> None:
    made = json.loads(hone("key", "create", "short-lived", "--data-dir", tuned.data_dir, "--json"))
    headers = {"X-API-Key": made["key"]}
    with wire_of(tuned) as wire:
        assert wire.get("auth/apikey/me", headers=headers).json()["name"] == "short-lived"
        assert wire.delete("auth/apikey/me", headers=headers).status_code == 204
        assert wire.get("auth/apikey/me", headers=headers).status_code == 401
