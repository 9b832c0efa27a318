"""Published weights stay as they were; a saved run continues as if it had never stopped."""

from pathlib import Path

import pytest
import tinker
import torch

from hone.client.connect import service_client
from hone.client.embedded import ServerInfo, embedded_server
from tests.contract.material import STEP, TOLERANCE, Material, datum, forward


def one_step(training: tinker.TrainingClient, material: Material) -> torch.Tensor:
    data = [datum(material.sequence(1))]
    training.forward_backward(data, "cross_entropy")
    training.optim_step(STEP)
    return forward(training, data)


def test_a_sampling_client_is_a_frozen_snapshot(training: tinker.TrainingClient, material: Material) -> None:
    sampler = training.save_weights_and_get_sampling_client().result()
    prompt = material.prompt()
    before = sampler.compute_logprobs(prompt).result()
    trained = forward(training, [datum(material.question())])
    one_step(training, material)
    assert sampler.compute_logprobs(prompt).result() == before
    assert before[1:] == pytest.approx(trained.tolist(), abs=TOLERANCE)
    now = training.save_weights_and_get_sampling_client().result().compute_logprobs(prompt).result()
    assert now != before


def test_named_sampler_weights_can_be_sampled_by_path(
    service: tinker.ServiceClient, training: tinker.TrainingClient, material: Material
) -> None:
    one_step(training, material)
    path = training.save_weights_for_sampler("published").result().path
    assert path.startswith("tinker://")
    assert path.endswith("/sampler_weights/published")
    scores = service.create_sampling_client(model_path=path).result().compute_logprobs(material.prompt()).result()
    assert scores[1:] == pytest.approx(forward(training, [datum(material.question())]).tolist(), abs=TOLERANCE)


def test_a_saved_run_resumes_to_the_bit(
    service: tinker.ServiceClient, training: tinker.TrainingClient, material: Material
) -> None:
    one_step(training, material)
    path = training.save_state("halfway").result().path
    resumed = service.create_training_client_from_state_with_optimizer(path).result()
    fresh = service.create_training_client_from_state(path).result()
    live = one_step(training, material)
    assert torch.equal(one_step(resumed, material), live)
    without_moments = one_step(fresh, material)
    assert (without_moments - live).abs().max() > 100 * TOLERANCE, "a fresh optimizer takes another step"


def test_a_name_in_use_is_refused_unless_overwritten(training: tinker.TrainingClient, material: Material) -> None:
    training.save_state("taken").result()
    with pytest.raises(tinker.RequestFailedError, match="taken") as refusal:
        training.save_state("taken").result()
    assert refusal.value.category == "user"
    one_step(training, material)
    training.save_state("taken", overwrite=True).result()


def test_state_and_sampler_weights_may_share_a_name(training: tinker.TrainingClient) -> None:
    state = training.save_state("000010").result().path
    weights = training.save_weights_for_sampler("000010").result().path
    assert state != weights


def test_checkpoints_are_listed_and_deleted(server: ServerInfo, training: tinker.TrainingClient) -> None:
    path = training.save_state("listed", ttl_seconds=7200).result().path
    rest = tinker.RestClient(base_url=server.url, api_key=server.api_key)
    run_id = path.removeprefix("tinker://").split("/")[0]
    listed = rest.list_checkpoints(run_id).result().checkpoints
    assert [checkpoint.tinker_path for checkpoint in listed] == [path]
    rest.delete_checkpoint_from_tinker_path(path).result()
    assert rest.list_checkpoints(run_id).result().checkpoints == []


@pytest.mark.slow
def test_a_run_resumes_after_a_restart_of_the_server(further_servers: None, tmp_path: Path, material: Material) -> None:
    with embedded_server(tmp_path) as first, service_client(first.url, first.api_key) as client:
        training = client.create_lora_training_client(first.models[0], rank=4, seed=7).result()
        one_step(training, material)
        path = training.save_state("kept").result().path
        live = one_step(training, material)
    with embedded_server(tmp_path) as second, service_client(second.url, second.api_key) as client:
        assert second.api_key == first.api_key
        resumed = client.create_training_client_from_state_with_optimizer(path).result()
        assert torch.equal(one_step(resumed, material), live)
