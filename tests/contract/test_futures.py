"""Section 8: answers, and the polls that wait for them."""

import logging
from typing import Any

import httpx
import pytest
import tinker
from tinker import types

from hone.client.connect import service_client
from hone.client.embedded import ServerInfo
from tests.contract.conftest import wire_of
from tests.contract.material import STEP, Material, datum, forward

PROTOBUF = "application/x-protobuf"


def poll(wire: httpx.Client, request_id: str, metadata_only: bool = False) -> httpx.Response:
    body = {"request_id": request_id, "allow_metadata_only": metadata_only}
    return wire.post("retrieve_future", json=body, headers={"Accept": PROTOBUF})


class Sampling:
    """A sampling session, spoken to by hand."""

    def __init__(self, wire: httpx.Client, base_model: str) -> None:
        self.wire = wire
        session = wire.post("create_session", json={"tags": []}).json()["session_id"]
        opened = {"session_id": session, "sampling_session_seq_id": 0, "base_model": base_model}
        self.id = wire.post("create_sampling_session", json=opened).json()["sampling_session_id"]

    def sample(self, seq_id: int, tokens: list[int], **params: Any) -> str:
        text = {"type": "encoded_text", "tokens": tokens}
        body = {"sampling_session_id": self.id, "seq_id": seq_id, "prompt": {"chunks": [text]}}
        answer = self.wire.post("asample", json=body | {"sampling_params": {"max_tokens": 2} | params})
        return str(answer.json()["request_id"])

    def completions(self, after: int, retrieved: tuple[str, ...] = ()) -> Any:
        target = {"type": "sampling_session", "sampling_session_id": self.id, "cloned_sampler_id": 0}
        body = {"target": target, "prev_cursor": after, "retrieved_request_ids": list(retrieved)}
        return self.wire.post("retrieve_futures", json=body | ({"timeout": 0} if retrieved else {})).json()


@pytest.fixture
def sampling(wire: httpx.Client, base_model: str) -> Sampling:
    return Sampling(wire, base_model)


# 8.1, 8.2 one answer


def test_an_answer_can_be_asked_for_again(wire: httpx.Client, sampling: Sampling, material: Material) -> None:
    request_id = sampling.sample(0, material.question())
    first, second = poll(wire, request_id), poll(wire, request_id)
    assert first.headers["content-type"].startswith(PROTOBUF)
    assert first.content == second.content
    assert first.content


def test_what_is_no_sample_or_gradient_is_answered_in_json(wire: httpx.Client, training: tinker.TrainingClient) -> None:
    body = {"model_id": training.model_id, "seq_id": 1, "path": "s", "type": "save_weights"}
    answer = poll(wire, wire.post("save_weights", json=body).json()["request_id"])
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["path"] == f"tinker://{training.model_id}/weights/s"
    assert "error" not in answer.json()


def test_a_failed_job_is_a_200_that_says_whose_fault_it_is(wire: httpx.Client, sampling: Sampling) -> None:
    answer = poll(wire, sampling.sample(0, [10_000_000]))
    assert answer.status_code == 200
    assert answer.json()["category"] == "user"
    assert "10000000" in answer.json()["error"]


@pytest.mark.parametrize("request_id", ["", "none", "none:sample:0:0", "x" * 5000])
def test_an_unknown_request_is_404(wire: httpx.Client, request_id: str) -> None:
    assert poll(wire, request_id).status_code == 404


def test_a_large_answer_is_announced_first(tuned: ServerInfo, material: Material) -> None:
    with wire_of(tuned) as wire:
        sampling = Sampling(wire, tuned.models[0])
        request_id = sampling.sample(0, material.question(), max_tokens=30, stop=[])
        while (announced := poll(wire, request_id, metadata_only=True)).status_code == 408:
            pass
        assert announced.json()["status"] == "complete_metadata"
        whole = poll(wire, request_id)
        assert announced.json()["response_payload_size"] == len(whole.content)


# 8.3 not ready yet


def test_short_polls_end_with_the_state_of_the_queue(tuned: ServerInfo, material: Material) -> None:
    with wire_of(tuned) as wire:
        sampling = Sampling(wire, tuned.models[0])
        waiting = [sampling.sample(n, material.question(), max_tokens=1500, stop=[]) for n in range(8)]
        early = poll(wire, waiting[-1])
        assert early.status_code == 408
        assert early.json()["queue_state"] == "active"
        for request_id in waiting:
            while (answer := poll(wire, request_id)).status_code == 408:
                pass
            assert answer.status_code == 200


def test_the_sdk_takes_short_polls_and_announced_answers_without_a_word(
    tuned: ServerInfo, service: tinker.ServiceClient, material: Material, caplog: pytest.LogCaptureFixture
) -> None:
    """And the numbers are those of a server without them."""
    data = [datum(material.sequence(number)) for number in range(40)]
    seen = []
    with service_client(tuned.url, tuned.api_key) as other, caplog.at_level(logging.WARNING):
        for client in (other, service):
            training = client.create_lora_training_client(tuned.models[0], rank=4, seed=7).result()
            training.forward_backward(data, "cross_entropy")
            training.optim_step(STEP)
            scores = forward(training, data).tolist()
            sampler = training.save_weights_and_get_sampling_client().result()
            params = tinker.SamplingParams(max_tokens=60, seed=4, stop=[])
            drawn = [sampler.sample(material.prompt(number), 2, params) for number in range(4)]
            seen.append((scores, [list(one.tokens) for future in drawn for one in future.result().sequences]))
    assert seen[0] == seen[1]
    assert [record.message for record in caplog.records if record.name.startswith("tinker")] == []


# 8.5 many answers


def test_one_poll_tells_of_every_answer_once(sampling: Sampling, material: Material) -> None:
    asked = {sampling.sample(seq, material.question(seq)) for seq in range(3)} | {sampling.sample(9, [10_000_000])}
    states: dict[str, str] = {}
    cursor = 0
    while len(states) < 4:
        answer = sampling.completions(cursor)
        types.FuturesRetrieveResponse.model_validate(answer)
        for one in answer["completions"]:
            assert one["request_id"] not in states
            states[one["request_id"]] = one["state"]
            assert one["state"] == "failed" or one["response_payload_uncompressed_size"] > 0
        assert answer["cursor"] > cursor
        cursor = answer["cursor"]
    assert set(states) == asked
    assert sorted(states.values()) == ["failed", "finished", "finished", "finished"]
    first = sampling.completions(0)
    assert {one["request_id"] for one in first["completions"]} == asked, "from the start again"


def test_an_acknowledged_answer_may_go(wire: httpx.Client, sampling: Sampling, material: Material) -> None:
    request_id = sampling.sample(0, material.question())
    cursor = sampling.completions(0)["cursor"]
    assert sampling.completions(cursor, retrieved=(request_id,)) == {"completions": [], "cursor": cursor}


@pytest.mark.parametrize("together", [True, False])
def test_many_samples_are_waited_for_in_either_way(
    server: ServerInfo, base_model: str, material: Material, together: bool
) -> None:
    with service_client(server.url, server.api_key) as client:
        changed = {"sample_use_retrieve_futures": together}
        client.holder._client_config = client.holder._client_config.model_copy(update=changed)
        sampler = client.create_sampling_client(base_model=base_model).result()
        params = tinker.SamplingParams(max_tokens=3)
        futures = [sampler.sample(material.prompt(number), 1, params) for number in range(100)]
        assert len({future.result().sequences[0].sequence_id for future in futures}) == 100


# 7.6 cancelled


def test_cancelling_is_fine_whatever_the_request_is(wire: httpx.Client, sampling: Sampling, material: Material) -> None:
    finished = sampling.sample(0, material.question())
    before = poll(wire, finished).content
    for request_id in (finished, finished, "none:sample:0:0"):
        assert wire.post("cancel_future", json={"request_id": request_id}).is_success
    assert poll(wire, finished).content == before


def test_a_cancelled_sample_is_answered_as_cancelled(
    wire: httpx.Client, sampling: Sampling, material: Material
) -> None:
    for seq in range(8):
        sampling.sample(seq, material.question(), max_tokens=200, stop=[])
    last = sampling.sample(8, material.question(), max_tokens=200, stop=[])
    assert wire.post("cancel_future", json={"request_id": last}).is_success
    assert "cancelled" in poll(wire, last).json()["error"]
