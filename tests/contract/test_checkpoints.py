"""Section 6: weights saved and loaded. Published ones stay as they were; a saved run goes on as if never stopped."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tinker
import torch

from hone.client.connect import service_client
from hone.client.embedded import ServerInfo, embedded_server
from tests.contract.conftest import Cli
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


def test_overwriting_replaces_weights_and_metadata(
    rest: tinker.RestClient, service: tinker.ServiceClient, training: tinker.TrainingClient, material: Material
) -> None:
    path = training.save_state("same", user_metadata={"step": "0", "note": "first"}).result().path
    moved = one_step(training, material)
    assert training.save_state("same", overwrite=True, user_metadata={"step": "1"}).result().path == path
    (found,) = rest.list_checkpoints(training.model_id).result().checkpoints
    assert found.user_metadata == {"step": "1"}
    resumed = service.create_training_client_from_state(path).result()
    assert torch.equal(forward(resumed, [datum(material.sequence(1))]), moved)


def test_every_kind_of_checkpoint_has_its_own_path(training: tinker.TrainingClient) -> None:
    paths = [
        training.save_state("000010").result().path,
        training.save_weights_for_sampler("000010").result().path,
        training.save_weights_external("000010").result().path,
    ]
    kinds = ("weights", "sampler_weights", "external_weights")
    assert paths == [f"tinker://{training.model_id}/{kind}/000010" for kind in kinds]


SAVES: dict[str, Callable[..., Any]] = {
    "state": tinker.TrainingClient.save_state,
    "sampler": tinker.TrainingClient.save_weights_for_sampler,
    "external": tinker.TrainingClient.save_weights_external,
}


@pytest.mark.parametrize("kind", SAVES)
def test_a_name_can_be_used_once(training: tinker.TrainingClient, kind: str) -> None:
    SAVES[kind](training, "taken").result()
    with pytest.raises(tinker.RequestFailedError, match="taken") as refusal:
        SAVES[kind](training, "taken").result()
    assert refusal.value.category == "user"


@pytest.mark.parametrize("kind", SAVES)
@pytest.mark.parametrize("name", ["a/b", "..", "", "x" * 300])
def test_a_name_is_one_segment_of_a_path(training: tinker.TrainingClient, kind: str, name: str) -> None:
    with pytest.raises((tinker.RequestFailedError, ValueError), match="name"):
        SAVES[kind](training, name).result()


@pytest.mark.parametrize("kind", SAVES)
def test_a_time_to_live_has_bounds(rest: tinker.RestClient, training: tinker.TrainingClient, kind: str) -> None:
    for seconds in (10, 11 * 365 * 24 * 3600):
        with pytest.raises(tinker.RequestFailedError, match="ttl_seconds") as refusal:
            SAVES[kind](training, "short", ttl_seconds=seconds).result()
        assert refusal.value.category == "user"
    SAVES[kind](training, "long", ttl_seconds=3600).result()
    (found,) = rest.list_checkpoints(training.model_id).result().checkpoints
    assert found.expires_at is not None
    assert 3500 < (found.expires_at - found.time).total_seconds() < 3700


@pytest.mark.parametrize("kind", SAVES)
def test_checkpoints_say_how_large_they_are(
    rest: tinker.RestClient, training: tinker.TrainingClient, kind: str
) -> None:
    path = SAVES[kind](training, "sized").result().path
    until = time.monotonic() + 10
    while True:  # sampler weights can be sampled before they are on disk
        (found,) = rest.list_checkpoints(training.model_id).result().checkpoints
        assert found.tinker_path == path
        if found.size_bytes is not None or time.monotonic() > until:
            break
    assert found.size_bytes is not None
    assert found.size_bytes > 10_000


@pytest.mark.parametrize("with_optimizer", [True, False])
def test_older_programs_load_into_a_model_that_exists(
    service: tinker.ServiceClient,
    training: tinker.TrainingClient,
    base_model: str,
    material: Material,
    with_optimizer: bool,
) -> None:
    one_step(training, material)
    path = training.save_state("halfway").result().path
    other = service.create_lora_training_client(base_model, rank=4, seed=99).result()
    with pytest.warns(match="deprecated"):
        (other.load_state_with_optimizer if with_optimizer else other.load_state)(path).result()
    data = [datum(material.sequence(1))]
    assert torch.equal(forward(other, data), forward(training, data))
    assert torch.equal(one_step(other, material), one_step(training, material)) == with_optimizer


@pytest.mark.filterwarnings("ignore:.*inflight")
def test_inflight_clients_move_on_and_snapshots_stay(training: tinker.TrainingClient, material: Material) -> None:
    prompt = material.prompt()
    snapshot = training.save_weights_and_get_sampling_client().result()
    moving = training.save_weights_and_get_sampling_client(kind="inflight").result()
    before = moving.compute_logprobs(prompt).result()
    assert snapshot.compute_logprobs(prompt).result() == before
    one_step(training, material)
    newer = training.save_weights_and_get_sampling_client(kind="inflight").result()
    now = newer.compute_logprobs(prompt).result()
    assert now != before
    assert moving.compute_logprobs(prompt).result() == now
    assert snapshot.compute_logprobs(prompt).result() == before


def test_a_checkpoint_of_somebody_else_needs_a_credential_that_may_read_it(
    tuned: ServerInfo, hone: Cli, material: Material
) -> None:
    keys = []
    for name in ("giver", "taker"):
        hone("project", "create", name, "--data-dir", tuned.data_dir)
        made = hone("key", "create", name, "--project", name, "--data-dir", tuned.data_dir, "--json")
        keys.append(json.loads(made)["key"])
    with (
        service_client(tuned.url, keys[0]) as giver,
        service_client(tuned.url, keys[1]) as taker,
    ):
        training = giver.create_lora_training_client(tuned.models[0], rank=4, seed=7).result()
        one_step(training, material)
        path = training.save_state("given").result().path
        with pytest.raises(tinker.NotFoundError):
            taker.create_training_client_from_state(path).result()
        taken = taker.create_training_client_from_state(path, weights_access_token=keys[0]).result()
        data = [datum(material.sequence(1))]
        assert torch.equal(forward(taken, data), forward(training, data))
    kept = Path(tuned.data_dir, "hone.sqlite").read_bytes() + Path(tuned.data_dir, "hone.sqlite-wal").read_bytes()
    assert keys[0].encode() not in kept, "nobody keeps the credential"


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
