"""The contract: the official SDK, unmodified, against a real server on the embedded model."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tinker
from tinker.cli.__main__ import main as tinker_command
from tinker.lib.internal_client_holder import sessionless_holder_cache
from tinker.lib.public_interfaces import rest_client_common
from transformers import PreTrainedTokenizerBase

from hone.cli.main import main
from hone.client.connect import service_client
from hone.client.embedded import ServerInfo, embedded_server
from tests.contract.material import Material

TURN: Any = [{"role": "user", "content": "What is 3 + 4?"}]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerInfo]:
    folder = tmp_path_factory.mktemp("server")
    settings = {"HONE_CHECKED_PARAMETERS": "0"}  # each export's check takes seconds
    with embedded_server(folder / "data", log=folder / "server.log", settings=settings) as running:
        yield running


@pytest.fixture(scope="session")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerInfo]:
    """Another server, with tokens instead of keys, answers announced before they are sent, short polls, and prices."""
    folder = tmp_path_factory.mktemp("tuned")
    settings = {
        "HONE_JWT_AUTH": "1",
        "HONE_METADATA_ONLY_BYTES": "100",
        "HONE_LONG_POLL_SECONDS": "0.05",
        "HONE_PRICES": '{"*": {"training": 2.0, "prefill": 1.0, "sample": 4.0, "storage": 0.5}}',
        "HONE_PUBLISH_TOKENIZERS": "0",
    }
    with embedded_server(folder / "data", log=folder / "server.log", settings=settings) as running:
        yield running


@pytest.fixture
def further_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that start servers of their own: they leave the shared server's tokenizer in the cache alone."""
    monkeypatch.setenv("HONE_PUBLISH_TOKENIZERS", "0")


@pytest.fixture(scope="session")
def service(server: ServerInfo) -> Iterator[tinker.ServiceClient]:
    with service_client(server.url, server.api_key) as client:
        yield client


@pytest.fixture(scope="session")
def base_model(server: ServerInfo) -> str:
    return server.models[0]


@pytest.fixture(scope="session")
def base_sampler(service: tinker.ServiceClient, base_model: str) -> tinker.SamplingClient:
    return service.create_sampling_client(base_model=base_model).result()


@pytest.fixture(scope="session")
def tokenizer(base_sampler: tinker.SamplingClient) -> PreTrainedTokenizerBase:
    return base_sampler.get_tokenizer()


@pytest.fixture(scope="session")
def material(tokenizer: PreTrainedTokenizerBase) -> Material:
    return Material(tokenizer)


@pytest.fixture
def training(service: tinker.ServiceClient, base_model: str) -> tinker.TrainingClient:
    """A fresh adapter; equal seeds, so two of them are equal."""
    return service.create_lora_training_client(base_model, rank=4, seed=7).result()


@pytest.fixture(scope="session")
def blue(service: tinker.ServiceClient, base_model: str) -> str:
    """Sampler weights that say "blue" to `TURN`."""
    training = service.create_lora_training_client(base_model, rank=8, seed=1).result()
    tokenizer = training.get_tokenizer()
    text = tokenizer.apply_chat_template(TURN, tokenize=False, add_generation_prompt=True)
    asked, said = tokenizer.encode(text), [*tokenizer.encode("blue"), tokenizer.eos_token_id]
    tokens = asked + said
    datum = tinker.Datum(
        model_input=tinker.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={
            "target_tokens": tinker.TensorData.from_numpy(np.array(tokens[1:])),
            "weights": tinker.TensorData.from_numpy(np.float32([0] * (len(asked) - 1) + [1] * len(said))),
        },
    )
    for _ in range(15):
        training.forward_backward([datum], "cross_entropy")
        training.optim_step(tinker.AdamParams(learning_rate=1e-2)).result()
    return training.save_weights_for_sampler("blue").result().path


@pytest.fixture(scope="session")
def rest(server: ServerInfo) -> tinker.RestClient:
    return tinker.RestClient(base_url=server.url, api_key=server.api_key)


def wire_of(server: ServerInfo) -> httpx.Client:
    """For what the SDK never sends, or does not show."""
    return httpx.Client(base_url=f"{server.url}/api/v1", headers={"X-API-Key": server.api_key}, timeout=60)


@pytest.fixture(scope="session")
def wire(server: ServerInfo) -> Iterator[httpx.Client]:
    with wire_of(server) as client:
        yield client


Cli = Callable[..., str]
"""Runs a command with some arguments, checks its exit code and returns what it printed."""


def cli_of(server: ServerInfo, home: Path) -> Cli:
    """The `tinker` command, run in this process: a Python that imports the SDK takes seconds to start."""

    def run(*arguments: str, code: int = 0, text: str = "", **variables: str) -> str:
        said, found = io.StringIO(), 0
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            for name, value in (_variables(server, home) | variables).items():
                patch.setenv(name, value)
            patch.chdir(home)
            patch.setattr(sys, "argv", ["tinker", *arguments])
            patch.setattr(sys, "stdin", io.StringIO(text))
            # The SDK keeps one connection for all clients of a process that name no server.
            patch.setattr(rest_client_common, "sessionless_holder_cache", type(sessionless_holder_cache)())
            try:
                tinker_command()
            except SystemExit as end:
                found = int(end.code or 0)
        assert found == code, said.getvalue()
        return said.getvalue()

    return run


def executable_of(server: ServerInfo, home: Path) -> Cli:
    """The `tinker` command as its user runs it."""

    def run(*arguments: str, code: int = 0, text: str = "", **variables: str | None) -> str:
        command = [str(Path(sys.executable).with_name("tinker")), *arguments]
        given = os.environ | _variables(server, home) | variables
        environment = {name: value for name, value in given.items() if value is not None}
        done = subprocess.run(
            command, env=environment, input=text, cwd=home, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def _variables(server: ServerInfo, home: Path) -> dict[str, str]:
    return {"TINKER_BASE_URL": server.url, "TINKER_API_KEY": server.api_key, "HOME": str(home)}


@pytest.fixture
def cli(server: ServerInfo, tmp_path: Path) -> Cli:
    return cli_of(server, tmp_path)


@pytest.fixture
def hone() -> Cli:
    """The `hone` command; returns what it printed."""

    def run(*arguments: str) -> str:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            assert main(list(arguments)) == 0
        return printed.getvalue()

    return run
