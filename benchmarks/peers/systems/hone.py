"""Ours, as its users have it: a server with its journal on disk, reached by the official SDK over HTTP."""

import contextlib
import os
from pathlib import Path

from benchmarks.peers.tinker_client import Client
from benchmarks.peers.work import Publish, Sample, Setting, Train
from hone.client.embedded import embedded_server


class System:
    def __init__(self, model: Path, setting: Setting) -> None:
        os.environ["TINKER_TELEMETRY"] = "0"
        self._stack = contextlib.ExitStack()
        server = self._stack.enter_context(embedded_server(models=[f"random={model}"]))
        self.pid = server.pid
        try:
            self._client = Client(server.url, server.api_key, "random", setting)
        except BaseException:
            self.close()
            raise

    def train(self, work: Train) -> None:
        self._client.train(work)

    def sample(self, work: Sample, seed: int) -> None:
        self._client.sample(work, seed)

    def publish(self, work: Publish) -> float:
        return self._client.publish(work)

    def close(self) -> None:
        self._stack.close()
