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


@contextmanager
def no_more_than(pid: int, room: int) -> Iterator[None]:
    """Within the block, the process may take `room` bytes beyond what it has."""
    has = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    unbounded = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(pid, resource.RLIMIT_AS, (has + room, resource.RLIM_INFINITY))
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
    with service_client(own.url, own.api_key) as service:
        large, twin, small = (
            service.create_lora_training_client(own.models[0], rank=4, seed=7).result() for _ in "123"
        )
        for client in (large, twin, small):
            client.forward_backward([datum(20)], "cross_entropy").result()
        pid = engine_pid(own)
        with no_more_than(pid, 8 * MIB):
            failing = large.forward_backward([datum(2000)], "cross_entropy")
            beside = small.forward_backward([datum(30)], "cross_entropy")
            assert beside.result().metrics["loss:sum"] > 0
            with pytest.raises(tinker.RequestFailedError, match="not enough memory for 2000 tokens") as failed:
                failing.result()
            assert failed.value.category.value == "server"
        assert engine_pid(own) == pid, "the engine lived on"
        wanted = [client.optim_step(STEP).result().metrics["optimizer/grad_norm"] for client in (twin, large)]
        assert wanted[0] == wanted[1], "nothing of the failed pass is in the gradient"

        data = [datum(250, first) for first in range(10, 18)]
        with no_more_than(pid, 60 * MIB):
            halved = large.forward_backward(data, "cross_entropy").result()
        whole = twin.forward_backward(data, "cross_entropy").result()
        assert halved.metrics["loss:sum"] == pytest.approx(whole.metrics["loss:sum"], rel=1e-6)
        norms = [client.optim_step(STEP).result().metrics["optimizer/grad_norm"] for client in (twin, large)]
        assert norms[1] == pytest.approx(norms[0], rel=1e-5)
        assert engine_pid(own) == pid
    log = (Path(own.data_dir).parent / "server.log").read_text()
    assert log.count("found no memory; trying its halves") >= 2
