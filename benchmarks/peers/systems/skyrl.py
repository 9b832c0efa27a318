"""SkyRL's tx server on jax, over HTTP, with a release of the SDK that it understands."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from benchmarks.peers.tinker_client import Client
from benchmarks.peers.work import Publish, Sample, Setting, Train

START_SECONDS = 300.0
AT_ONCE = 1024
"""Sequences of a training pass times tenants: its memory grows with both. By default all sequences are in one pass,
and 64 tenants take more than 20 GB."""
SHIM = Path(__file__).parents[1] / "skyrl_shim"


class System:
    def __init__(self, model: Path, setting: Setting) -> None:
        os.environ["TINKER_TELEMETRY"] = "0"
        self._server = Server(model, setting)
        self.pid = self._server.pid
        try:
            self._client = Client(self._server.url, "tml-none", str(model), setting)
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
        self._server.close()


class Server:
    """Ready when it is made; what it writes goes to `log`, or to this process's own output."""

    def __init__(self, model: Path, setting: Setting, log: int | None = None) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="skyrl-", ignore_cleanup_errors=True)
        scratch = Path(self._scratch.name)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        # it starts its engine with the flags of the `uv run` that started it, and with no other launcher
        command = [_tool("uv"), "run", "--no-project", "-m", "skyrl.tinker.api"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--base-model", str(model)]
        command += ["--backend", "jax", "--backend-config", _backend(setting)]
        command += ["--database-url", f"sqlite:///{scratch}/tinker.db", "--checkpoints-base", f"{scratch}/saved"]
        self._server = subprocess.Popen(command, env=_environment(), start_new_session=True, stdout=log, stderr=log)
        self.pid = self._server.pid
        try:
            _wait(self.url, self._server)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        os.killpg(self._server.pid, signal.SIGTERM)
        try:
            self._server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._server.pid, signal.SIGKILL)
        self._scratch.cleanup()


def _backend(setting: Setting) -> str:
    """Adapter 0 is the base model. Every slot costs memory and time, used or not."""
    config = {
        "max_lora_adapters": setting.tenants + 1,
        "max_lora_rank": setting.rank,
        "train_micro_batch_size": AT_ONCE // setting.tenants,
        "sample_max_num_sequences": setting.sampled_together,
    }
    return json.dumps(config)


def _environment() -> dict[str, str]:
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "HF_HUB_OFFLINE": "1",
        "UV_OFFLINE": "1",
        "VIRTUAL_ENV": sys.prefix,
        "PATH": f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    return environment | {"PYTHONPATH": str(SHIM)}


def _tool(name: str) -> str:
    return str(Path(sys.prefix) / "bin" / name)


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with {server.returncode}")
        try:
            urllib.request.urlopen(f"{url}/api/v1/get_server_capabilities", timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the server was not ready after {START_SECONDS:.0f} s")
