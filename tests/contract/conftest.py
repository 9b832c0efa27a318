"""The contract: the official SDK, unmodified, against a real server on the embedded model."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import tinker
from transformers import PreTrainedTokenizerBase

from hone.client.connect import service_client
from hone.client.embedded import ServerInfo, embedded_server
from tests.contract.material import Material


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerInfo]:
    folder = tmp_path_factory.mktemp("server")
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("HONE_CHECKED_PARAMETERS", "0")  # each export's check takes seconds
            running = stack.enter_context(embedded_server(folder / "data", log=folder / "server.log"))
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
