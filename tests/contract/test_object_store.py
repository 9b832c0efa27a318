"""Checkpoints in S3, by the official SDK: the local files are lost, and nothing is."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import tinker
import torch

from hone.client.connect import service_client
from hone.client.embedded import ServerInfo, embedded_server
from tests.contract.material import STEP, Material, datum, forward
from tests.contract.test_recovery import kill_engine, serve
from tests.support.object_stores import S3


@pytest.fixture(scope="module")
def s3_backed(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerInfo]:
    settings = {"HONE_BLOBS_URL": s3.url(), "HONE_PUBLISH_TOKENIZERS": "0"}
    with embedded_server(tmp_path_factory.mktemp("s3") / "data", settings=settings) as running:
        yield running


def lose_files(server: ServerInfo) -> None:
    for folder in ("checkpoints", "snapshots"):
        shutil.rmtree(Path(server.data_dir) / folder)
        (Path(server.data_dir) / folder).mkdir()


def one_step(training: tinker.TrainingClient, material: Material) -> torch.Tensor:
    data = [datum(material.sequence(number)) for number in range(4)]
    training.forward_backward(data, "cross_entropy")
    training.optim_step(STEP)
    return forward(training, data)


def test_a_run_resumes_and_samples_from_the_store(s3_backed: ServerInfo, material: Material) -> None:
    with service_client(s3_backed.url, s3_backed.api_key) as service:
        training = service.create_lora_training_client(s3_backed.models[0], rank=4, seed=7).result()
        one_step(training, material)
        path = training.save_state("halfway").result().path
        sampler_path = training.save_weights_for_sampler("published").result().path
        unnamed = training.save_weights_and_get_sampling_client().result()
        scores = unnamed.compute_logprobs(material.prompt()).result()
        live = one_step(training, material)

        lose_files(s3_backed)
        kill_engine(s3_backed)  # so that nothing is in memory either
        resumed = service.create_training_client_from_state_with_optimizer(path).result()
        assert torch.equal(one_step(resumed, material), live)
        published = service.create_sampling_client(model_path=sampler_path).result()
        assert published.compute_logprobs(material.prompt()).result() == scores
        assert unnamed.compute_logprobs(material.prompt()).result() == scores
        assert torch.equal(forward(training, [datum(material.sequence(number)) for number in range(4)]), live)

        rest = tinker.RestClient(base_url=s3_backed.url, api_key=s3_backed.api_key)
        run_id = training.model_id
        assert rest.get_weights_info_by_tinker_path(path).result().lora_rank == 4
        rest.delete_checkpoint(run_id, "weights/halfway").result()
        assert [one.checkpoint_id for one in rest.list_checkpoints(run_id).result().checkpoints] == [
            "sampler_weights/published"
        ]
        with pytest.raises(tinker.RequestFailedError, match="halfway"):
            service.create_training_client_from_state(path).result()


@pytest.mark.slow
def test_a_run_goes_on_unnoticed_on_a_new_machine(
    further_servers: None, s3: S3, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a new machine has of the old one are database and object store; here, an SQLite file elsewhere."""
    monkeypatch.setenv("HONE_BLOBS_URL", s3.url())
    monkeypatch.setenv("HONE_DATABASE_URL", f"sqlite:///{tmp_path / 'records.sqlite'}")
    monkeypatch.setenv("HONE_SNAPSHOT_OPERATIONS", "3")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = serve(port, tmp_path / "first")
    with service_client(f"http://127.0.0.1:{port}", "tml-recovery") as client:
        training = client.create_lora_training_client("hone/tiny", rank=4, seed=7).result()
        for step in range(4):
            disturbed = one_step(training, material)
            if step == 1:
                end(process)
                shutil.rmtree(tmp_path / "first")
                process = serve(port, tmp_path / "second")
                assert not list((tmp_path / "second" / "snapshots").iterdir())
        assert list((tmp_path / "second" / "snapshots").iterdir())
        quiet = client.create_lora_training_client("hone/tiny", rank=4, seed=7).result()
        for _ in range(4):
            undisturbed = one_step(quiet, material)
        assert torch.equal(disturbed, undisturbed)
    end(process)


def end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
