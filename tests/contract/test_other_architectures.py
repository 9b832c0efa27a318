"""Models that transformers runs behind the same protocol: training, sampling, checkpoints and exports."""

import json
import urllib.request
from collections.abc import Iterator

import numpy as np
import pytest
import tinker
import torch

from hone.client.connect import service_client
from hone.client.embedded import ServerInfo, embedded_server
from tests.contract.material import STEP, TOLERANCE, datum, forward
from tests.support.architectures import MODELS, VOCAB, reference


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerInfo]:
    """One server with a small random model of each architecture."""
    folder = tmp_path_factory.mktemp("other")
    for name in MODELS:
        reference(name).save_pretrained(folder / name)
    models, quiet = [f"other/{name}={folder / name}" for name in MODELS], {"HONE_PUBLISH_TOKENIZERS": "0"}
    with embedded_server(folder / "data", models=models, log=folder / "server.log", settings=quiet) as server:
        yield server


@pytest.fixture(scope="module")
def other(running: ServerInfo) -> Iterator[tinker.ServiceClient]:
    with service_client(running.url, running.api_key) as client:
        yield client


@pytest.fixture(scope="module")
def rest_of_other(running: ServerInfo) -> tinker.RestClient:
    return tinker.RestClient(base_url=running.url, api_key=running.api_key)


def sequence(seed: int, length: int = 24) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(2, VOCAB, length)]


@pytest.mark.parametrize("name", MODELS)
def test_it_trains_samples_and_comes_back_from_a_checkpoint(name: str, other: tinker.ServiceClient) -> None:
    training = other.create_lora_training_client(f"other/{name}", rank=4, seed=1).result()
    data = [datum(sequence(i)) for i in range(3)]
    losses = []
    for _ in range(6):
        passed = training.forward_backward(data, "cross_entropy")
        training.optim_step(STEP).result()
        losses.append(passed.result().metrics["loss:sum"])
    assert losses[-1] < 0.9 * losses[0]

    sampler = training.save_weights_and_get_sampling_client().result()
    prompt = sequence(9, 20)
    drawn = sampler.sample(tinker.ModelInput.from_ints(prompt), 3, tinker.SamplingParams(max_tokens=8, seed=2)).result()
    for sample in drawn.sequences:
        assert sample.logprobs is not None
        trained = forward(training, [datum([*prompt, *sample.tokens])]).tolist()
        assert sample.logprobs == pytest.approx(trained[len(prompt) - 1 :], abs=TOLERANCE)

    saved = training.save_state("here").result().path
    again = other.create_training_client_from_state(saved).result()
    assert torch.equal(forward(again, data), forward(training, data))


def test_an_export_computes_the_same_in_transformers(
    other: tinker.ServiceClient, rest_of_other: tinker.RestClient
) -> None:
    training = other.create_lora_training_client("other/gpt_oss", rank=4, seed=1).result()
    for _ in range(3):
        training.forward_backward([datum(sequence(1))], "cross_entropy")
        training.optim_step(STEP).result()
    path = training.save_weights_external("out").result().path
    url = rest_of_other.get_external_weights_urls(path).result().urls["hone_export.json"]
    with urllib.request.urlopen(url) as response:
        parity = json.loads(response.read())["parity"]
    assert parity["within_tolerance"] is True, parity
    assert parity["max_difference_nats"] > 0
