"""`kill -9` of engine or server in the middle of a run: no error for the client, and the numbers of a quiet run."""

import signal
import socket
import subprocess
import sys
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


def serve(port: int, data_dir: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "hone.cli.main", "serve", "--json", "--port", str(port)]
    command += ["--api-key", "tml-recovery", "--data-dir", str(data_dir)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    assert process.stdout.readline(), "the server did not start"
    return process


@pytest.mark.slow
def test_a_killed_server_goes_unnoticed_once_it_is_back(
    further_servers: None, material: Material, tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = [datum(material.sequence(number)) for number in range(8)]
    results = []
    for killed in (False, True):
        process = serve(port, tmp_path / str(killed))
        with service_client(f"http://127.0.0.1:{port}", "tml-recovery") as client:
            training = client.create_lora_training_client("hone/tiny", rank=4, seed=1).result()
            losses = []
            for step in range(STEPS):
                gradient, update = training.forward_backward(data, "cross_entropy"), training.optim_step(STEP)
                if killed and step == STEPS // 2:
                    process.kill()
                    process.wait()
                    assert process.stdout is not None
                    process.stdout.close()
                    process = serve(port, tmp_path / str(killed))
                losses.append(gradient.result().metrics["loss:sum"])
                update.result()
            results.append((losses, forward(training, data)))
        process.terminate()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    (calm_losses, calm), (losses, disturbed) = results
    assert losses == calm_losses
    assert torch.equal(calm, disturbed)
