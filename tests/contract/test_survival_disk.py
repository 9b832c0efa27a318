"""A full disk: what needs room is refused with a reason, nothing is damaged, and the work goes on when room is back."""

import os
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import tinker

from hone.client.connect import service_client
from hone.client.embedded import ServerInfo, embedded_server
from tests.contract.material import STEP, Material, datum


@dataclass(frozen=True)
class Disk:
    """A small file system of its own."""

    root: Path

    def fill(self, leave: int) -> None:
        """Until so many bytes are free, or fewer: the server writes too, and may take the last ones first."""
        state = os.statvfs(self.root)
        with suppress(OSError), (self.root / "ballast").open("ab", buffering=0) as ballast:
            ballast.write(bytes(max(0, state.f_bavail * state.f_frsize - leave)))

    def clear(self) -> None:
        (self.root / "ballast").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    root = tmp_path / "disk"
    root.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(root)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"needs the right to mount: {mounted.stderr.decode().strip()}")
    yield Disk(root)
    subprocess.run(["umount", str(root)], check=True)


def train(training: tinker.TrainingClient, material: Material, steps: range) -> list[float]:
    losses = []
    for step in steps:
        gradient = training.forward_backward([datum(material.sequence(step))], "cross_entropy")
        update = training.optim_step(STEP)
        losses.append(gradient.result().metrics["loss:sum"])
        update.result()
    return losses


def completion(server: ServerInfo, model: str) -> str:
    body = {"model": model, "prompt": "What is 2 + 3?", "max_tokens": 8, "temperature": 0}
    headers = {"X-API-Key": server.api_key}
    answer = httpx.post(f"{server.url}/oai/api/v1/completions", json=body, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["text"])


@pytest.mark.slow
def test_a_full_disk_refuses_with_a_reason_and_the_work_goes_on_when_there_is_room(
    disk: Disk, service: tinker.ServiceClient, base_model: str, material: Material, further_servers: None
) -> None:
    undisturbed = train(service.create_lora_training_client(base_model, rank=8, seed=1).result(), material, range(6))

    with embedded_server(disk.root / "data") as server, service_client(server.url, server.api_key) as client:
        training = client.create_lora_training_client(base_model, rank=8, seed=1).result()
        losses = train(training, material, range(3))

        disk.fill(leave=300_000)  # room for the journal, not for a checkpoint
        with pytest.raises(tinker.RequestFailedError, match="No space left"):
            training.save_state("too-big").result()
        named = training.save_weights_for_sampler("later-on-disk").result().path
        before = completion(server, named)

        disk.fill(leave=0)
        session = {"tags": ["x" * 5000], "sdk_version": "0.38.0"}
        refused = httpx.post(f"{server.url}/api/v1/create_session", json=session, headers={"X-API-Key": server.api_key})
        assert refused.status_code == 507
        assert "full" in refused.json()["detail"]
        more = threading.Thread(target=lambda: losses.extend(train(training, material, range(3, 6))))
        more.start()
        more.join(1.5)
        assert more.is_alive(), "the client waits"

        disk.clear()
        more.join(60)
        assert losses == undisturbed
        training.save_state("small-enough").result()
        assert not list(disk.root.rglob("*too-big*")), "nothing is left of what found no room"

    with sqlite3.connect(disk.root / "data" / "hone.sqlite") as records:
        assert records.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    records.close()
    with embedded_server(disk.root / "data") as server:
        assert completion(server, named) == before
