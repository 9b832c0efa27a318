"""Section 9: runs, checkpoints, sessions, the audit log and the bill, through the REST and admin clients."""

import json
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import tinker
from tinker import types

from hone.client.connect import service_client
from hone.client.embedded import ServerInfo
from tests.contract.material import STEP, Material, datum

pytestmark = pytest.mark.filterwarnings("ignore:RestClient.search_sessions is experimental")


@pytest.fixture(scope="module")
def trained(server: ServerInfo, base_model: str, material: Material) -> Iterator[tinker.TrainingClient]:
    """A run of a session of its own, with a checkpoint of every kind."""
    with tinker.ServiceClient(
        base_url=server.url,
        api_key=server.api_key,
        user_metadata={"suite": "resources"},
        display_name="The run of the resources",
    ) as client:
        training = client.create_lora_training_client(base_model, rank=4, user_metadata={"note": "mine"}).result()
        training.forward_backward([datum(material.sequence())], "cross_entropy")
        training.optim_step(STEP).result()
        training.save_state("a", user_metadata={"step": "1"}).result()
        training.save_weights_for_sampler("b").result()
        training.save_weights_external("c").result()
        training.save_weights_and_get_sampling_client().result()
        yield training


def path_of(training: tinker.TrainingClient, checkpoint_id: str) -> str:
    return f"tinker://{training.model_id}/{checkpoint_id}"


def session_of(training: tinker.TrainingClient) -> str:
    return str(training.model_id).split(":")[0]


# Runs.


@pytest.mark.parametrize("scope", ["owned", "accessible"])
def test_a_run_tells_all_about_itself(
    rest: tinker.RestClient, trained: tinker.TrainingClient, base_model: str, scope: Any
) -> None:
    run = rest.get_training_run(trained.model_id, access_scope=scope).result()
    assert (run.training_run_id, run.base_model, run.is_lora, run.lora_rank) == (trained.model_id, base_model, True, 4)
    assert run.user_metadata == {"note": "mine"}
    assert run.model_owner
    assert not run.corrupted
    assert run.last_checkpoint is not None
    assert run.last_sampler_checkpoint is not None
    assert run.last_checkpoint.tinker_path == path_of(trained, "weights/a")
    assert run.last_sampler_checkpoint.tinker_path == path_of(trained, "sampler_weights/b")
    assert abs((datetime.now(UTC) - run.last_request_time).total_seconds()) < 600
    assert rest.get_training_run_by_tinker_path(path_of(trained, "weights/a")).result() == run


def test_runs_come_in_pages(rest: tinker.RestClient, trained: tinker.TrainingClient) -> None:
    first = rest.list_training_runs(limit=1).result()
    assert (first.cursor.offset, first.cursor.limit) == (0, 1)
    assert len(first.training_runs) == 1
    total = first.cursor.total_count
    everything = rest.list_training_runs(limit=total).result().training_runs
    assert len({run.training_run_id for run in everything}) == total
    assert trained.model_id in {run.training_run_id for run in everything}
    assert rest.list_training_runs(limit=1, offset=1).result().training_runs == everything[1:2]
    assert rest.list_training_runs(offset=total).result().training_runs == []


def test_runs_of_one_project(rest: tinker.RestClient, trained: tinker.TrainingClient) -> None:
    mine = rest.list_training_runs(limit=1000, project_id="default").result().training_runs
    assert trained.model_id in {run.training_run_id for run in mine}
    with pytest.raises(tinker.NotFoundError):
        rest.list_training_runs(project_id="nobody's").result()


def test_an_unknown_run_is_not_found(rest: tinker.RestClient) -> None:
    for work in (rest.get_training_run, rest.list_checkpoints):
        with pytest.raises(tinker.NotFoundError, match="nobody"):
            work("nobody:train:0").result()


# Checkpoints.


def test_a_run_lists_its_checkpoints(rest: tinker.RestClient, trained: tinker.TrainingClient) -> None:
    found = {one.checkpoint_id: one for one in rest.list_checkpoints(trained.model_id).result().checkpoints}
    kinds = {"weights/a": "training", "sampler_weights/b": "sampler", "external_weights/c": "external"}
    assert {name: one.checkpoint_type for name, one in found.items()} == kinds
    for name, one in found.items():
        assert one.tinker_path == path_of(trained, name)
        assert one.time.tzinfo is not None
        assert not one.public
        assert one.expires_at is None
    assert found["weights/a"].user_metadata == {"step": "1"}


def test_all_checkpoints_come_newest_first_and_in_pages(
    rest: tinker.RestClient, trained: tinker.TrainingClient
) -> None:
    whole = rest.list_user_checkpoints(limit=1000).result()
    assert whole.cursor is not None
    assert whole.cursor.total_count == len(whole.checkpoints)
    times = [one.time for one in whole.checkpoints]
    assert times == sorted(times, reverse=True)
    page = rest.list_user_checkpoints(limit=2, offset=1).result().checkpoints
    assert [one.tinker_path for one in page] == [one.tinker_path for one in whole.checkpoints[1:3]]
    assert path_of(trained, "weights/a") in {one.tinker_path for one in whole.checkpoints}


def test_what_was_deleted_is_gone_and_said_so_at_once(
    rest: tinker.RestClient, service: tinker.ServiceClient, training: tinker.TrainingClient
) -> None:
    path = training.save_state("gone").result().path
    rest.delete_checkpoint(training.model_id, "weights/gone").result()
    started = time.monotonic()
    with pytest.raises(tinker.NotFoundError, match="gone"):
        rest.delete_checkpoint_from_tinker_path(path).result()
    with pytest.raises(tinker.RequestFailedError, match="gone"):
        service.create_training_client_from_state(path).result()
    assert time.monotonic() - started < 5, "nothing was repeated"
    assert rest.list_checkpoints(training.model_id).result().checkpoints == []
    assert training.save_state("gone").result().path == path, "its name is free again"


def test_publishing_twice_is_fine(rest: tinker.RestClient, training: tinker.TrainingClient) -> None:
    path = training.save_state("x").result().path
    for change, public in (
        (rest.publish_checkpoint_from_tinker_path, True),
        (rest.unpublish_checkpoint_from_tinker_path, False),
    ):
        for _ in range(2):
            started = time.monotonic()
            change(path).result()
            assert time.monotonic() - started < 5
        assert rest.list_checkpoints(training.model_id).result().checkpoints[0].public is public


def test_a_time_to_live_counts_from_now_and_can_be_taken_back(
    rest: tinker.RestClient, training: tinker.TrainingClient
) -> None:
    path = training.save_state("x").result().path
    rest.set_checkpoint_ttl_from_tinker_path(path, 7200).result()
    (found,) = rest.list_checkpoints(training.model_id).result().checkpoints
    assert found.expires_at is not None
    assert abs(found.expires_at - datetime.now(UTC) - timedelta(seconds=7200)) < timedelta(seconds=60)
    rest.set_checkpoint_ttl_from_tinker_path(path, None).result()
    assert rest.list_checkpoints(training.model_id).result().checkpoints[0].expires_at is None
    for seconds in (10, 11 * 365 * 24 * 3600):
        with pytest.raises(tinker.BadRequestError, match="ttl_seconds"):
            rest.set_checkpoint_ttl_from_tinker_path(path, seconds).result()


def test_links_to_files_need_no_key_and_last(rest: tinker.RestClient, trained: tinker.TrainingClient) -> None:
    given = rest.get_external_weights_urls(path_of(trained, "external_weights/c")).result()
    assert set(given.urls) == {"adapter_config.json", "adapter_model.safetensors", "hone_export.json"}
    assert (given.expires - datetime.now(UTC)).total_seconds() > 600
    with urllib.request.urlopen(given.urls["adapter_config.json"]) as response:
        assert int(response.headers["Content-Length"]) > 0
        assert json.load(response)["r"] == 4


def test_only_exports_have_links(rest: tinker.RestClient, trained: tinker.TrainingClient) -> None:
    for checkpoint_id in ("weights/a", "sampler_weights/b"):
        with pytest.raises((tinker.BadRequestError, ValueError), match="external"):
            rest.get_external_weights_urls(path_of(trained, checkpoint_id)).result()


def test_weights_info(rest: tinker.RestClient, trained: tinker.TrainingClient, base_model: str) -> None:
    for checkpoint_id in ("weights/a", "sampler_weights/b"):
        info = rest.get_weights_info_by_tinker_path(path_of(trained, checkpoint_id)).result()
        assert (info.base_model, info.is_lora, info.lora_rank) == (base_model, True, 4)
        assert (info.train_attn, info.train_mlp, info.train_unembed) == (True, True, True)
        assert info.optimizer_config == types.AdamOptimizerConfig()
    with pytest.raises(tinker.NotFoundError):
        rest.get_weights_info_by_tinker_path(path_of(trained, "weights/none")).result()


def test_a_copy_is_a_run_of_its_own(rest: tinker.RestClient, trained: tinker.TrainingClient) -> None:
    copied = rest.copy_weights(path_of(trained, "weights/a"), "default", ttl_seconds=7200).result()
    run_id = copied.removeprefix("tinker://").split("/")[0]
    assert run_id != trained.model_id
    (found,) = rest.list_checkpoints(run_id).result().checkpoints
    assert (found.checkpoint_id, found.user_metadata) == ("weights/a", {"step": "1"})
    assert found.expires_at is not None
    with pytest.raises(tinker.BadRequestError, match="external"):
        rest.copy_weights(path_of(trained, "external_weights/c"), "default").result()


# Sessions.


@pytest.mark.parametrize("scope", ["owned", "accessible"])
def test_a_session_lists_what_it_made(
    rest: tinker.RestClient, trained: tinker.TrainingClient, base_model: str, scope: Any
) -> None:
    session = rest.get_session(session_of(trained), access_scope=scope).result()
    assert session.training_run_ids == [trained.model_id]
    assert (session.user_metadata, session.display_name) == ({"suite": "resources"}, "The run of the resources")
    (sampler_id,) = session.sampler_ids
    sampler = rest.get_sampler(sampler_id).result()
    assert (sampler.sampler_id, sampler.base_model) == (sampler_id, base_model)


def test_sessions_come_in_pages(rest: tinker.RestClient, trained: tinker.TrainingClient) -> None:
    everything = rest.list_sessions(limit=1000).result().sessions
    assert session_of(trained) in everything
    assert rest.list_sessions(limit=1, offset=1).result().sessions == everything[1:2]


def test_what_does_not_exist_is_not_found(rest: tinker.RestClient) -> None:
    for work in (rest.get_session, rest.get_sampler, rest.export_session_trace):
        with pytest.raises(tinker.NotFoundError):
            work("nobody").result()


def test_a_session_moves_to_another_project(server: ServerInfo, rest: tinker.RestClient, base_model: str) -> None:
    with service_client(server.url, server.api_key) as client:
        training = client.create_lora_training_client(base_model, rank=2).result()
        rest.assign_session_project(session_of(training), "elsewhere").result()
        there = rest.list_training_runs(project_id="elsewhere").result().training_runs
        assert [run.training_run_id for run in there] == [training.model_id]


FOUND: dict[str, dict[str, Any]] = {
    "metadata": {"user_metadata": {"suite": "resources"}},
    "name": {"display_name": "run resources"},
    "state": {"display_name": "resources", "statuses": [types.ActiveSessionStatusQuery()]},
    "project": {"display_name": "resources", "project_ids": ["default"]},
    "owner": {"display_name": "resources", "owner": types.OwnSearchOwner()},
    "everybody": {"display_name": "resources", "owner": types.AccessibleSearchOwner()},
}
NOT_FOUND: dict[str, dict[str, Any]] = {
    "metadata": {"user_metadata": {"suite": "another"}},
    "name": {"display_name": "no such words"},
    "state": {"display_name": "resources", "statuses": [types.ClientFinishedSessionStatusQuery()]},
    "owner": {"display_name": "resources", "owner": types.UserSearchOwner(owner_urns=["tml:user:somebody"])},
}


@pytest.mark.parametrize("by", FOUND)
def test_sessions_are_found(rest: tinker.RestClient, trained: tinker.TrainingClient, by: str) -> None:
    (found,) = rest.search_sessions(types.SessionSearchRequest(**FOUND[by])).result().sessions
    assert found.session_id == session_of(trained)
    assert (found.checkpoints_count, found.status) == (3, types.SessionActive())
    assert found.checkpoint_storage_bytes
    assert found.owner


@pytest.mark.parametrize("by", NOT_FOUND)
def test_sessions_that_differ_are_not_found(rest: tinker.RestClient, trained: tinker.TrainingClient, by: str) -> None:
    assert rest.search_sessions(types.SessionSearchRequest(**NOT_FOUND[by])).result().sessions == []


def test_a_search_goes_on_where_its_page_ended(rest: tinker.RestClient, trained: tinker.TrainingClient) -> None:
    seen: list[str] = []
    cursor = None
    while True:
        page = rest.search_sessions(types.SessionSearchRequest(limit=3, cursor=cursor)).result()
        seen += [one.session_id for one in page.sessions]
        if (cursor := page.next_cursor) is None:
            break
    assert len(seen) == len(set(seen))
    assert set(seen) == set(rest.list_sessions(limit=1000).result().sessions)


def test_a_trace_shows_the_operations(rest: tinker.RestClient, trained: tinker.TrainingClient) -> None:
    with urllib.request.urlopen(rest.export_session_trace(session_of(trained)).result()) as response:
        events = json.load(response)["traceEvents"]
    named = {event["name"] for event in events}
    assert {"create_model", "forward_backward", "optim_step", "save_weights"} <= named


# The audit log and the bill.


@pytest.fixture
def admin(server: ServerInfo) -> tinker.AdminClient:
    return tinker.AdminClient(base_url=server.url, api_key=server.api_key)


def test_the_audit_log_names_what_was_done(
    admin: tinker.AdminClient, rest: tinker.RestClient, training: tinker.TrainingClient
) -> None:
    path = training.save_state("audited").result().path
    rest.publish_checkpoint_from_tinker_path(path).result()
    rest.delete_checkpoint_from_tinker_path(path).result()
    entries = admin.get_audit_log("checkpoints").result().entries
    events = [entry.event for entry in entries if entry.tinker_path == path]
    assert {"checkpoint_publish", "checkpoint_delete"} <= set(events)
    assert admin.get_audit_log().result().entries
    assert admin.get_audit_log("all", (datetime.now(UTC) - timedelta(days=3)).date()).result().entries == []
    assert not [entry for entry in admin.get_audit_log("projects").result().entries if entry.tinker_path]


def window(hours: int = 2) -> tuple[datetime, datetime]:
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    return now - timedelta(hours=hours - 1), now + timedelta(hours=1)


def test_the_bill_agrees_with_the_tokens(tuned: ServerInfo, material: Material) -> None:
    admin = tinker.AdminClient(base_url=tuned.url, api_key=tuned.api_key)
    with tinker.ServiceClient(base_url=tuned.url, api_key=tuned.api_key, user_metadata={"bill": "mine"}) as client:
        session_id = client.holder.get_session_id()
        training = client.create_lora_training_client(tuned.models[0], rank=4).result()
        training.forward_backward([datum(material.sequence())], "cross_entropy").result()
        training.save_state("billed").result()
        sampler = client.create_sampling_client(base_model=tuned.models[0]).result()
        drawn = sampler.sample(material.prompt(), 3, tinker.SamplingParams(max_tokens=4, stop=[])).result()
    bill = admin.get_billing_usage(*window()).result()
    mine = [event for event in bill.data if event.session_id == session_id]
    tokens: dict[str, int] = {}
    for event in mine:
        if (count := getattr(event.event_info, "token_count", None)) is not None:
            tokens[event.event_info.type] = tokens.get(event.event_info.type, 0) + count
    assert tokens == {
        "training": len(material.sequence()) - 1,
        "sampling_prefill": len(material.question()),
        "sampling_sample": sum(len(sequence.tokens) for sequence in drawn.sequences),
    }
    (trained,) = [event for event in mine if event.event_info.type == "training"]
    assert trained.estimated_cost_usd == pytest.approx(tokens["training"] * 2.0 / 1e6)
    assert bill.sessions[session_id].user_metadata == {"bill": "mine"}
    stored = admin.get_current_checkpoint_storage_usage().result()
    assert stored.effective_rate_usd_per_gigabyte_month == 0.5
    assert sum(one.checkpoint_count for one in stored.data) >= 1


def test_a_window_has_at_most_fourteen_days(admin: tinker.AdminClient) -> None:
    admin.get_billing_usage(*window(14 * 24)).result()
    with pytest.raises(tinker.BadRequestError, match="14 days"):
        admin.get_billing_usage(*window(15 * 24)).result()


def test_storage_of_one_project(admin: tinker.AdminClient, trained: tinker.TrainingClient) -> None:
    found = admin.get_current_checkpoint_storage_usage("default").result().data
    assert found
    assert all(one.size_bytes > 0 for one in found)


def test_queries_that_make_no_sense_are_refused(wire: httpx.Client) -> None:
    for query in ("training_runs?limit=many", "checkpoints?offset=-1", "audit?day=yesterday", "audit?event_type=x"):
        response = wire.get(query)
        assert response.status_code == 400, query
        assert response.json()["detail"]
