"""Methods as their users run them: against a real server with the embedded model, through the official SDK."""

from collections.abc import Iterator

import pytest
import tinker
from transformers import PreTrainedTokenizerBase

from hone.client.connect import service_client
from hone.client.embedded import ServerInfo, embedded_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerInfo]:
    folder = tmp_path_factory.mktemp("methods")
    with embedded_server(folder / "data", log=folder / "server.log") as running:
        yield running


@pytest.fixture(scope="session")
def service(server: ServerInfo) -> Iterator[tinker.ServiceClient]:
    with service_client(server.url, server.api_key) as client:
        yield client


@pytest.fixture(scope="session")
def model(server: ServerInfo) -> str:
    return server.models[0]


@pytest.fixture(scope="session")
def tokenizer(service: tinker.ServiceClient, model: str) -> PreTrainedTokenizerBase:
    return service.create_lora_training_client(model, rank=1).result().get_tokenizer()
