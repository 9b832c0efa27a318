"""How the official client waits for samples: many at once, polled together or one by one, cancelled, copied."""

import multiprocessing
import pickle
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import tinker
from tinker import types

from hone.client.connect import service_client
from tests.support.service import KEY, MODEL, LiveServer
from tests.support.uniform_engine import UniformEngine

pytestmark = pytest.mark.usefixtures("any_database")

PROMPT = types.ModelInput.from_ints([1, 2, 3])
PARAMS = types.SamplingParams(max_tokens=4, stop=[])


def opened(client: tinker.ServiceClient, poll_together: bool = True) -> tinker.SamplingClient:
    config = client.holder._client_config
    client.holder._client_config = config.model_copy(update={"sample_use_retrieve_futures": poll_together})
    return client.create_sampling_client(base_model=MODEL).result()


@pytest.mark.parametrize("poll_together", [True, False])
def test_many_samples_at_once_finish(client: tinker.ServiceClient, poll_together: bool) -> None:
    sampler = opened(client, poll_together)
    waiting = [sampler.sample(PROMPT, 1, PARAMS) for _ in range(400)]
    names = {future.result(60).sequences[0].sequence_id for future in waiting}
    assert len(names) == 400


@pytest.mark.parametrize("poll_together", [True, False])
def test_all_finish_though_the_server_asks_the_client_to_hold_back(tmp_path: Path, poll_together: bool) -> None:
    with (
        LiveServer(tmp_path, UniformEngine(slow=0.002), max_waiting_samples=50) as server,
        service_client(server.url, KEY) as client,
    ):
        sampler = opened(client, poll_together)
        waiting = [sampler.sample(PROMPT, 1, PARAMS) for _ in range(80)]
        assert len({future.result(60).sequences[0].sequence_id for future in waiting}) == 80


def test_a_failed_sample_fails_alone(client: tinker.ServiceClient) -> None:
    sampler = opened(client)
    good = sampler.sample(PROMPT, 1, PARAMS)
    with pytest.raises(tinker.RequestFailedError, match="context window"):
        sampler.sample(PROMPT, 1, types.SamplingParams(max_tokens=10**6)).result(30)
    assert len(good.result(30).sequences[0].tokens) == 4
    assert len(sampler.sample(PROMPT, 1, PARAMS).result(30).sequences[0].tokens) == 4


def test_waiting_goes_on_through_a_restart_of_the_server(tmp_path: Path) -> None:
    with LiveServer(tmp_path, UniformEngine(slow=0.5)) as server:
        client = tinker.ServiceClient(base_url=server.url, api_key=KEY)
        sampler = opened(client)
        before = [sampler.sample(PROMPT, 1, PARAMS) for _ in range(5)]
        before[0].result(30)
    with LiveServer(tmp_path, port=server.port):
        assert len({future.result(30).sequences[0].sequence_id for future in before}) == 5
        assert len(sampler.sample(PROMPT, 1, PARAMS).result(30).sequences) == 1
        client.close("success")


def test_a_sample_that_the_client_gives_up_is_cancelled(tmp_path: Path) -> None:
    with (
        LiveServer(tmp_path, UniformEngine(slow=30.0)) as server,
        service_client(server.url, KEY) as client,
    ):
        future = opened(client).sample(PROMPT, 1, PARAMS)
        _until(lambda: len(server.engine._under_way) == 1)
        _until(lambda: server.service.futures._pollers)  # the client knows what the sample is called
        future.future().cancel()
        _until(lambda: not server.engine._under_way)


def _until(happened: object) -> None:
    assert callable(happened)
    for _ in range(200):
        if happened():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def _sample_elsewhere(pickled: bytes) -> list[str]:
    sampler: tinker.SamplingClient = pickle.loads(pickled)
    futures = [sampler.sample(PROMPT, 2, PARAMS) for _ in range(3)]
    return [sequence.sequence_id for future in futures for sequence in future.result(60).sequences]


def test_copies_of_a_client_in_other_processes_take_names_of_their_own(
    client: tinker.ServiceClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINKER_API_KEY", KEY)  # copies do not carry the key
    sampler = opened(client)
    mine = [sequence.sequence_id for sequence in sampler.sample(PROMPT, 2, PARAMS).result(30).sequences]
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawned) as processes:
        theirs = list(processes.map(_sample_elsewhere, [pickle.dumps(sampler)] * 2))
    names = [*mine, *theirs[0], *theirs[1]]
    assert len(set(names)) == len(names) == 2 + 6 + 6
    assert {int(name.split(":")[-2]) // 10**9 for name in names} == {0, 1, 2}
