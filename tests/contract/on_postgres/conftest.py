"""The same tests on a server whose records are in Postgres: what depends on the server is made once more."""

from collections.abc import Iterator

import httpx
import pytest
import tinker

from hone.client.connect import service_client
from hone.client.embedded import ServerInfo, embedded_server
from tests.contract.conftest import wire_of
from tests.support.databases import PostgresDatabases


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresDatabases) -> Iterator[ServerInfo]:
    folder = tmp_path_factory.mktemp("server")
    settings = {"HONE_DATABASE_URL": postgres.lasting(), "HONE_CHECKED_PARAMETERS": "0"}
    with embedded_server(folder / "data", log=folder / "server.log", settings=settings) as running:
        yield running


@pytest.fixture(scope="session")
def service(server: ServerInfo) -> Iterator[tinker.ServiceClient]:
    with service_client(server.url, server.api_key) as client:
        yield client


@pytest.fixture(scope="session")
def base_sampler(service: tinker.ServiceClient, base_model: str) -> tinker.SamplingClient:
    return service.create_sampling_client(base_model=base_model).result()


@pytest.fixture(scope="session")
def rest(server: ServerInfo) -> tinker.RestClient:
    return tinker.RestClient(base_url=server.url, api_key=server.api_key)


@pytest.fixture(scope="session")
def wire(server: ServerInfo) -> Iterator[httpx.Client]:
    with wire_of(server) as client:
        yield client
