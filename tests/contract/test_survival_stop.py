"""A server that is told to stop in the middle of saves: it ends soon and in order, and the next one goes on."""

import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from hone.client.connect import service_client
from tests.contract.material import STEP, Material, datum
from tests.contract.test_recovery import serve

STOPS_WITHIN = 15.0


def stop(process: "subprocess.Popen[bytes]") -> None:
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(STOPS_WITHIN + 5) == 0
    assert time.monotonic() - started < STOPS_WITHIN
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.slow
def test_saves_under_way_are_made_although_the_server_stops(
    further_servers: None, material: Material, tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = serve(port, tmp_path)
    with service_client(f"http://127.0.0.1:{port}", "tml-recovery") as client:
        training = client.create_lora_training_client("hone/tiny", rank=32, seed=1).result()
        data = [datum(material.sequence(number)) for number in range(8)]
        gradients, saves = [], []
        for step in range(3):
            gradients.append(training.forward_backward(data, "cross_entropy"))
            training.optim_step(STEP)
            saves.append(training.save_state(f"state-{step}"))
            saves.append(training.save_weights_for_sampler(f"sampler-{step}"))
        saves[0].result()  # the others are in the journal, with the engine, or half on disk
        stop(process)
        process = serve(port, tmp_path)
        paths = [save.result().path for save in saves]
        assert [path.split("/", 3)[3] for path in paths[:3]] == [
            "weights/state-0",
            "sampler_weights/sampler-0",
            "weights/state-1",
        ]
        resumed = client.create_training_client_from_state_with_optimizer(paths[2]).result()
        loss = resumed.forward(data, "cross_entropy").result().metrics["loss:sum"]
        assert loss == gradients[2].result().metrics["loss:sum"], "it holds what two steps made"
    stop(process)
    left = [path for path in tmp_path.rglob(".*") if path.is_dir() and not path.name.startswith(".unnamed")]
    assert not left, "no draft is left"
