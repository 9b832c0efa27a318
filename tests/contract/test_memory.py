"""A real lack of memory, as the operating system has it: the engine process may not grow any further."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import tinker

from hone.client.connect import service_client
from hone.client.embedded import ServerInfo, embedded_server
from tests.contract.conftest import wire_of
from tests.contract.material import STEP

MIB = 1 << 20
HALVED = "found no memory; trying its halves"

pytestmark = [
    pytest.mark.usefixtures("further_servers"),
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux to bound another process"),
]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[ServerInfo]:
    # of one thread: further ones reserve addresses of their own, so that bounding these would bound nothing
    settings = {"HONE_TRAINING_THREADS": "1"}
    with embedded_server(tmp_path / "data", log=tmp_path / "server.log", settings=settings) as running:
        yield running


def engine_pid(server: ServerInfo) -> int:
    with wire_of(server) as http:
        return int(http.get("/engine").json()["pid"])


def address_space(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()


@contextmanager
def no_more_than(pid: int, room: int, *, beyond: int) -> Iterator[None]:
    """Within the block, the process may take `room` bytes of addresses beyond so many."""
    unbounded = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(pid, resource.RLIMIT_AS, (beyond + room, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_AS, unbounded)


def datum(length: int, first: int = 10) -> tinker.Datum:
    tokens = [first + i % 400 for i in range(length + 1)]
    return tinker.Datum(
        model_input=tinker.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={
            "target_tokens": tinker.TensorData(data=tokens[1:], dtype="int64", shape=[length]),
            "weights": tinker.TensorData(data=[1.0] * length, dtype="float32", shape=[length]),
        },
    )


def test_a_pass_without_memory_is_halved_or_fails_alone(own: ServerInfo) -> None:
    log = Path(own.data_dir).parent / "server.log"
    with service_client(own.url, own.api_key) as service:
        large, twin, small = (
            service.create_lora_training_client(own.models[0], rank=4, seed=7).result() for _ in "123"
        )
        for client in (large, twin, small):
            client.forward_backward([datum(20)], "cross_entropy").result()
        pid = engine_pid(own)
        held = address_space(pid)
        with no_more_than(pid, 8 * MIB, beyond=held):
            failing = large.forward_backward([datum(2000)], "cross_entropy")
            beside = small.forward_backward([datum(30)], "cross_entropy")
            assert beside.result().metrics["loss:sum"] > 0
            with pytest.raises(tinker.RequestFailedError, match="not enough memory for 2000 tokens") as failed:
                failing.result()
            assert failed.value.category.value == "server"
            assert HALVED in log.read_text()
        assert engine_pid(own) == pid, "the engine lived on"
        wanted = [client.optim_step(STEP).result().metrics["optimizer/grad_norm"] for client in (twin, large)]
        assert wanted[0] == wanted[1], "nothing of the failed pass is in the gradient"

        data = [datum(250, first) for first in range(10, 18)]
        halved, refused, room = None, [], 8.0
        while halved is None:  # what a pass needs depends on what lies free in the process
            warned = log.read_text().count(HALVED)
            with no_more_than(pid, int(room * MIB), beyond=held):
                try:
                    halved = large.forward_backward(data, "cross_entropy").result()
                except tinker.RequestFailedError as error:
                    refused.append(str(error))
            room *= 1.15
        assert log.read_text().count(HALVED) == warned + 1, "with less it failed"
        assert all("not enough memory for 1000 tokens" in why for why in refused)
        whole = twin.forward_backward(data, "cross_entropy").result()
        assert halved.metrics["loss:sum"] == pytest.approx(whole.metrics["loss:sum"], rel=1e-6)
        norms = [client.optim_step(STEP).result().metrics["optimizer/grad_norm"] for client in (twin, large)]
        assert norms[1] == pytest.approx(norms[0], rel=1e-5)
        assert engine_pid(own) == pid
