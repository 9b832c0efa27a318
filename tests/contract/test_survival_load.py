"""Many, large, slow and malicious requests: all are served or refused, memory stays bounded, nobody else waits."""

import gzip
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import tinker
import zstandard
from tinker import types

from hone.client.connect import service_client
from tests.support.service import KEY, MODEL, LiveServer, forward_backward

PROMPT = types.ModelInput.from_ints([1, 2, 3])
PARAMS = types.SamplingParams(max_tokens=2, stop=[])
MIB = 1 << 20
HEADERS = {"X-API-Key": KEY}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with LiveServer(tmp_path_factory.mktemp("live"), max_body_bytes=64 * MIB, max_bodies_bytes=128 * MIB) as live:
        yield live


@pytest.fixture(scope="module")
def client(live: LiveServer) -> Iterator[tinker.ServiceClient]:
    with service_client(live.url, KEY) as client:
        yield client


@pytest.fixture(scope="module")
def model(client: tinker.ServiceClient) -> str:
    return str(client.create_lora_training_client(MODEL, rank=4).result().model_id)


@pytest.mark.slow
def test_two_thousand_samples_at_once(client: tinker.ServiceClient) -> None:
    sampler = client.create_sampling_client(base_model=MODEL).result()
    waiting = [sampler.sample(PROMPT, 1, PARAMS) for _ in range(2000)]
    names = {future.result(100).sequences[0].sequence_id for future in waiting}
    assert len(names) == 2000


def test_ten_thousand_data_in_one_call(client: tinker.ServiceClient) -> None:
    training = client.create_lora_training_client(MODEL, rank=4).result()
    data = []
    for i in range(10_000):
        tokens = [1 + i % 40, 2, 3]
        inputs = {"target_tokens": np.array(tokens, np.int64), "weights": np.array([1, 1, i % 2], np.float32)}
        data.append(types.Datum(model_input=types.ModelInput.from_ints(tokens), loss_fn_inputs=inputs))
    result = training.forward_backward(data, "cross_entropy").result(100)
    assert len(result.loss_fn_outputs) == 10_000
    positions = sum(3 if i % 2 else 2 for i in range(10_000))
    assert result.metrics["loss:sum"] == pytest.approx(positions * np.log(50), rel=1e-6)
    assert training.optim_step(types.AdamParams()).result(30).metrics["steps"] == 1


def connect(live: LiveServer, head: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", live.port), timeout=20)
    connection.sendall(head.replace("\n", "\r\n").encode())
    return connection


def heads(path: str, length: int) -> str:
    return f"POST /api/v1/{path} HTTP/1.1\nHost: x\nX-API-Key: {KEY}\nContent-Length: {length}\n\n"


def test_a_client_that_dribbles_its_body_holds_up_nobody(live: LiveServer, model: str) -> None:
    body = json.dumps({"session_id": model.split(":")[0]}).encode()
    slow = [connect(live, heads("session_heartbeat", len(body))) for _ in range(50)]
    for i, byte in enumerate(body):
        for connection in slow:
            connection.sendall(bytes([byte]))
        if i % 20 == 0:
            started = time.monotonic()
            assert httpx.post(f"{live.url}/api/v1/get_info", json={"model_id": model}, headers=HEADERS).is_success
            assert time.monotonic() - started < 2
    for connection in slow:
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        connection.close()


def test_clients_that_stop_halfway_leave_nothing(live: LiveServer, model: str) -> None:
    for _ in range(20):
        connection = connect(live, heads("forward_backward", 50 * MIB))
        connection.sendall(bytes(MIB))
        connection.close()
    _until(lambda: live.service.room.held == 0)
    assert httpx.post(f"{live.url}/api/v1/get_info", json={"model_id": model}, headers=HEADERS).is_success


def test_a_client_that_does_not_read_its_answers_holds_up_nobody(live: LiveServer, model: str) -> None:
    """It asks for large answers on one connection and never takes them: the server stops sending, not serving."""
    asked = json.dumps({"request_id": _large_result(live, model)})
    request = heads("retrieve_future", len(asked)) + asked
    deaf = connect(live, "")
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    before = psutil.Process(os.getpid()).memory_info().rss
    deaf.setblocking(False)
    try:
        for _ in range(200):
            deaf.sendall(request.replace("\n", "\r\n").encode())
    except BlockingIOError:
        pass  # the server does not take in more than it can answer
    for _ in range(5):
        assert httpx.post(f"{live.url}/api/v1/get_info", json={"model_id": model}, headers=HEADERS).is_success
    assert psutil.Process(os.getpid()).memory_info().rss - before < 100 * MIB
    deaf.close()


def _large_result(live: LiveServer, model: str) -> str:
    session, number = model.split(":")[0], int(time.monotonic() * 1000) % 10**8 + 10
    made = {"session_id": session, "model_seq_id": number, "base_model": MODEL}
    httpx.post(f"{live.url}/api/v1/create_model", json=made, headers=HEADERS)
    message = forward_backward(f"{session}:train:{number}", 1)
    for _ in range(2000):
        message.data.add().CopyFrom(message.data[0])
        message.data[-1].model_input[0].encoded_text.tokens = np.ones(200, np.int32).tobytes()
        for name, kind in (("target_tokens", np.int64), ("weights", np.float32)):
            message.data[-1].loss_fn_inputs[name].dense = np.ones(200, kind).tobytes()
            message.data[-1].loss_fn_inputs[name].shape[:] = [200]
    sent = httpx.post(f"{live.url}/api/v1/forward_backward", content=message.SerializeToString(), headers=HEADERS)
    request = str(sent.json()["request_id"])
    answer = httpx.post(f"{live.url}/api/v1/retrieve_future", json={"request_id": request}, headers=HEADERS)
    assert len(answer.content) > MIB
    return request


def test_bombs_and_oversized_bodies_are_refused_in_bounded_memory(live: LiveServer, model: str) -> None:
    url, zeros = f"{live.url}/api/v1/forward_backward", bytes(512 * MIB)
    bomb = zstandard.compress(zeros)
    without_size = zstandard.ZstdCompressor(write_content_size=False).compress(zeros)
    packed = gzip.compress(zeros[: 64 * MIB])
    del zeros
    refusals: list[httpx.Response] = []

    def attack(content: bytes, encoding: str) -> None:
        headers = HEADERS | {"Content-Encoding": encoding}
        refusals.append(httpx.post(url, content=content, headers=headers, timeout=60))

    process = psutil.Process(os.getpid())
    before, peak, done = process.memory_info().rss, 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, process.memory_info().rss)

    watching = threading.Thread(target=watch)
    watching.start()
    attacks = [(bomb, "zstd"), (without_size, "zstd"), (packed, "gzip")] * 6
    threads = [threading.Thread(target=attack, args=one) for one in attacks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    watching.join()
    assert {answer.status_code for answer in refusals} == {400, 415}
    assert len(refusals) == len(attacks)
    assert peak - before < 3 * 64 * MIB, "one body of the largest size is unpacked at a time"
    oversized = httpx.post(url, content=(bytes(MIB) for _ in range(80)), headers=HEADERS, timeout=60)
    assert oversized.status_code == 413
    _until(lambda: live.service.room.held == 0)
    assert httpx.post(f"{live.url}/api/v1/get_info", json={"model_id": model}, headers=HEADERS).is_success


def test_what_is_too_much_for_all_bodies_together_is_asked_to_come_again(live: LiveServer, model: str) -> None:
    slow = []
    for _ in range(3):
        connection = connect(live, heads("forward_backward", 60 * MIB))
        connection.sendall(bytes(40 * MIB))
        slow.append(connection)
    _until(lambda: live.service.room.held >= 120 * MIB)
    refused = httpx.post(f"{live.url}/api/v1/forward_backward", content=bytes(20 * MIB), headers=HEADERS, timeout=30)
    assert refused.status_code == 429
    assert httpx.post(f"{live.url}/api/v1/get_info", json={"model_id": model}, headers=HEADERS).is_success
    for connection in slow:
        connection.close()
    _until(lambda: live.service.room.held == 0)


def _until(happened: object) -> None:
    assert callable(happened)
    for _ in range(400):
        if happened():
            return
        time.sleep(0.025)
    raise AssertionError("it did not happen")


def test_what_a_client_left_between_its_chunks_fails_and_others_go_on(tmp_path: Path) -> None:
    """The first chunk of a call is sent last; a client that dies before leaves a hole that nobody will fill."""
    with (
        LiveServer(tmp_path, gap_seconds=0.5) as live,
        service_client(live.url, KEY) as client,
    ):
        training = client.create_lora_training_client(MODEL, rank=4).result()
        model = str(training.model_id)
        requests = []
        for seq in (2, 3):
            content = forward_backward(model, seq).SerializeToString()
            sent = httpx.post(f"{live.url}/api/v1/forward_backward", content=content, headers=HEADERS)
            requests.append(sent.json()["request_id"])
        for request in requests:
            failed = httpx.post(f"{live.url}/api/v1/retrieve_future", json={"request_id": request}, headers=HEADERS)
            assert failed.json()["category"] == "user"
            assert "1 before it did not" in failed.json()["error"]
        other = client.create_lora_training_client(MODEL, rank=4).result()
        assert other.optim_step(types.AdamParams()).result(20).metrics
        late = forward_backward(model, 4).SerializeToString()
        sent = httpx.post(f"{live.url}/api/v1/forward_backward", content=late, headers=HEADERS)
        done = httpx.post(f"{live.url}/api/v1/retrieve_future", json=sent.json(), headers=HEADERS)
        assert "protobuf" in done.headers["content-type"], "the model itself goes on"
