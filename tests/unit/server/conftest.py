from collections.abc import Iterator
from pathlib import Path

import pytest
import tinker

from hone.client.connect import service_client
from tests.support.service import KEY, LiveServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """A service on the uniform engine, on a real port."""
    with LiveServer(tmp_path) as server:
        yield server


@pytest.fixture
def client(server: LiveServer) -> Iterator[tinker.ServiceClient]:
    with service_client(server.url, KEY) as client:
        yield client
