"""An S3-compatible server on a loopback port, in a thread of the tests."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from unittest import mock

import httpx
from moto.server import ThreadedMotoServer

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


@dataclass(frozen=True)
class S3:
    endpoint: str
    _buckets: Iterator[int] = field(default_factory=count)

    def bucket(self) -> str:
        """A new, empty one."""
        name = f"bucket-{next(self._buckets)}"
        httpx.put(f"{self.endpoint}/{name}").raise_for_status()
        return name

    def url(self) -> str:
        """For HONE_BLOBS_URL: a place of its own."""
        return f"s3://{self.bucket()}/some/prefix?endpoint_url={self.endpoint}"


@contextmanager
def s3_server() -> Iterator[S3]:
    """While the block runs, this process and its children have the keys."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        with mock.patch.dict(os.environ, CREDENTIALS):
            yield S3(f"http://{host}:{port}")
    finally:
        server.stop()
