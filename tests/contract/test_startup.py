"""Section 3: what a client asks first, its session from beginning to end, telemetry, capabilities."""

import threading
import time
from typing import Any, Literal

import httpx
import pytest
import tinker
from tinker import types

from hone.client.embedded import ServerInfo

pytestmark = pytest.mark.filterwarnings("ignore:RestClient.search_sessions is experimental")


def open_client(server: ServerInfo, **fields: Any) -> tinker.ServiceClient:
    return tinker.ServiceClient(base_url=server.url, api_key=server.api_key, **fields)


def session_of(client: tinker.ServiceClient) -> str:
    return str(client.holder.get_session_id())


def found(rest: tinker.RestClient, session_id: str) -> types.SessionSummary:
    (one,) = rest.search_sessions(types.SessionSearchRequest(session_id=session_id)).result().sessions
    return one


# 3.1, 3.2 configuration


def test_the_configuration_is_one_that_the_sdk_knows(wire: httpx.Client) -> None:
    answer = wire.post("client/config", json={"sdk_version": "0.38.0"}).json()
    assert set(answer) <= set(types.ClientConfigResponse.model_fields)
    config = types.ClientConfigResponse.model_validate(answer)
    assert not config.sample_use_retrieve_futures
    assert config.sample_join_sampling_session
    assert config.custom_loss_server_side


def test_the_dynamic_configuration_is_one_that_the_sdk_knows(wire: httpx.Client) -> None:
    answer = wire.post("client/dynamic_config", json={"sdk_version": "0.38.0"}).json()
    assert set(answer) <= set(types.ClientDynamicConfigResponse.model_fields)
    assert types.ClientDynamicConfigResponse.model_validate(answer).sample_cancel_enabled


# 3.3 sessions


def test_clients_without_a_session_make_none(server: ServerInfo, rest: tinker.RestClient) -> None:
    before = rest.list_sessions(limit=1000).result().sessions
    tinker.AdminClient(base_url=server.url, api_key=server.api_key).get_audit_log().result()
    tinker.RestClient(base_url=server.url, api_key=server.api_key).list_training_runs().result()
    assert rest.list_sessions(limit=1000).result().sessions == before


def test_a_session_keeps_what_it_was_given(server: ServerInfo, rest: tinker.RestClient) -> None:
    with open_client(server, user_metadata={"team": "blue"}, display_name="Evening run") as client:
        shown = rest.get_session(session_of(client)).result()
        assert (shown.user_metadata, shown.display_name) == ({"team": "blue"}, "Evening run")
        assert (shown.training_run_ids, shown.sampler_ids) == ([], [])


def test_tags_and_project_may_come_from_the_environment(
    server: ServerInfo, rest: tinker.RestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINKER_PROJECT_ID", "evenings")
    monkeypatch.setenv("TINKER_TAGS", "a,b")
    with open_client(server) as client:
        assert found(rest, session_of(client)).project_id == "evenings"


# 3.4 heartbeat


def test_a_heartbeat_is_answered_until_the_session_is_finished(wire: httpx.Client) -> None:
    session_id = wire.post("create_session", json={"tags": []}).json()["session_id"]
    beat = {"session_id": session_id, "type": "session_heartbeat"}
    assert wire.post("session_heartbeat", json=beat).json() == {"type": "session_heartbeat"}
    assert wire.post(f"sessions/{session_id}/finish", json={"reason": {"type": "success"}}).status_code == 204
    assert wire.post("session_heartbeat", json=beat).status_code == 410
    assert wire.post("session_heartbeat", json=beat | {"session_id": "none"}).status_code == 404


# 3.5 the end


def test_leaving_the_block_finishes_the_session(server: ServerInfo, rest: tinker.RestClient) -> None:
    with open_client(server) as client:
        session_id = session_of(client)
        assert found(rest, session_id).status == types.SessionActive()
    status = found(rest, session_id).status
    assert isinstance(status, types.ClientSessionFinished)
    assert status.reason == types.ClientSessionFinishSuccess()


def test_leaving_the_block_with_an_exception_says_so(server: ServerInfo, rest: tinker.RestClient) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    client = open_client(server)
    session_id = session_of(client)
    with pytest.raises(ZeroDivisionError), client:
        fail()
    status = found(rest, session_id).status
    assert isinstance(status, types.ClientSessionFinished)
    assert status.reason == types.ClientSessionFinishErrored()


@pytest.mark.parametrize("reason", ["success", "errored", "interrupted"])
def test_the_first_reason_stays(
    server: ServerInfo,
    rest: tinker.RestClient,
    wire: httpx.Client,
    reason: Literal["success", "errored", "interrupted"],
) -> None:
    client = open_client(server)
    session_id = session_of(client)
    client.close(reason, detail="because").result()
    later = {"reason": {"type": "errored" if reason == "success" else "success"}, "detail": None}
    assert wire.post(f"sessions/{session_id}/finish", json=later).is_success
    status = found(rest, session_id).status
    assert isinstance(status, types.ClientSessionFinished)
    assert (status.reason.type, status.detail) == (reason, "because")


def test_a_finished_session_takes_no_work(server: ServerInfo, wire: httpx.Client, base_model: str) -> None:
    client = open_client(server)
    session_id = session_of(client)
    client.close("success").result()
    for path, numbered in (
        ("create_model", {"model_seq_id": 0}),
        ("create_sampling_session", {"sampling_session_seq_id": 0}),
    ):
        response = wire.post(path, json={"session_id": session_id, "base_model": base_model} | numbered)
        assert response.status_code == 400
        assert "finished" in response.json()["detail"]


# 3.6 telemetry


def test_telemetry_is_accepted_also_without_a_session(wire: httpx.Client) -> None:
    event = {
        "event": "GENERIC_EVENT",
        "event_id": "1",
        "event_session_index": 0,
        "severity": "INFO",
        "timestamp": "2026-01-01T00:00:00Z",
        "event_name": "x",
        "event_data": {},
    }
    for session_id in ("sessionless-123", "also unknown"):
        batch = {"events": [event], "platform": "Linux", "sdk_version": "0.38.0", "session_id": session_id}
        assert wire.post("telemetry", json=batch).json() == {"status": "accepted"}


def test_the_sdk_reports_when_it_is_left_on(server: ServerInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    def counted() -> int:
        metrics = httpx.get(f"{server.url}/metrics", headers={"X-API-Key": server.api_key}).text
        lines = [one for one in metrics.splitlines() if "/api/v1/telemetry" in one and "requests_total" in one]
        return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines if 'status="200"' in line)

    before = counted()
    monkeypatch.setenv("TINKER_TELEMETRY", "1")
    with open_client(server) as client:
        session_of(client)
    deadline = time.monotonic() + 15
    while counted() == before and time.monotonic() < deadline:
        threading.Event().wait(0.1)
    assert counted() > before


# 3.7 health and capabilities


def test_health(server: ServerInfo, wire: httpx.Client) -> None:
    assert wire.get("healthz").json() == {"status": "ok"}
    for path in ("/healthz", "/readyz"):
        assert httpx.get(f"{server.url}{path}").status_code == 200, "for machines that watch, without a key"


def test_capabilities_name_the_served_models(server: ServerInfo, rest: tinker.RestClient) -> None:
    models = rest.get_server_capabilities().result().supported_models
    assert [model.model_name for model in models] == list(server.models)
    for model in models:
        assert model.max_context_length is not None
        assert model.max_context_length >= 256
        assert model.trainable
        assert model.sampleable
