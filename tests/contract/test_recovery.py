"""`kill -9` of the engine in the middle of a run: the client sees no error, and the numbers are of a quiet run."""

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import tinker
import torch

from hone.client.connect import service_client
from hone.client.embedded import ServerInfo, embedded_server
from tests.contract.material import STEP, Material, datum, forward

STEPS = 6


@pytest.fixture
def own_server(further_servers: None, tmp_path: Path) -> Iterator[ServerInfo]:
    """Not the shared one: its engine is about to die."""
    with embedded_server(tmp_path) as server:
        yield server


def kill_engine(server: ServerInfo) -> None:
    children = psutil.Process(server.pid).children(recursive=True)
    (engine,) = [child for child in children if "hone.engine.process" in child.cmdline()]
    engine.send_signal(signal.SIGKILL)


def train(server: ServerInfo, material: Material, kill_before_step: int | None) -> torch.Tensor:
    data = [datum(material.sequence(number)) for number in range(8)]
    with service_client(server.url, server.api_key) as client:
        training = client.create_lora_training_client(server.models[0], rank=4, seed=1).result()
        for step in range(STEPS):
            if step == kill_before_step:
                training.forward_backward(data[:1], "cross_entropy")  # under way when the engine dies
                kill_engine(server)
            elif kill_before_step is None and step == STEPS // 2:
                training.forward_backward(data[:1], "cross_entropy")
            training.forward_backward(data, "cross_entropy")
            training.optim_step(STEP)
        return forward(training, data)


@pytest.mark.slow
def test_a_killed_engine_goes_unnoticed(own_server: ServerInfo, material: Material) -> None:
    quiet = train(own_server, material, kill_before_step=None)
    interrupted = train(own_server, material, kill_before_step=STEPS // 2)
    assert torch.equal(quiet, interrupted)


@pytest.mark.slow
def test_samplers_outlive_the_engine(own_server: ServerInfo, material: Material) -> None:
    with service_client(own_server.url, own_server.api_key) as client:
        training = client.create_lora_training_client(own_server.models[0], rank=4, seed=1).result()
        training.forward_backward([datum(material.sequence())], "cross_entropy")
        training.optim_step(STEP)
        sampler = training.save_weights_and_get_sampling_client().result()
        before = sampler.compute_logprobs(material.prompt()).result()
        kill_engine(own_server)
        assert sampler.compute_logprobs(material.prompt()).result() == before
        params = tinker.SamplingParams(max_tokens=4)
        assert sampler.sample(material.prompt(), 2, params).result().sequences
