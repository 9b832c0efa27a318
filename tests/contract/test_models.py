"""Section 4: models made new or from a checkpoint, and what is known about them."""

from pathlib import Path
from typing import Any

import httpx
import pytest
import safetensors.numpy
import tinker
import torch
from tinker import types

from hone.client.connect import service_client
from hone.client.embedded import ServerInfo
from tests.contract.material import STEP, Material, datum, forward


def stepped(training: tinker.TrainingClient, material: Material) -> torch.Tensor:
    data = [datum(material.sequence(1))]
    training.forward_backward(data, "cross_entropy")
    training.optim_step(STEP)
    return forward(training, data)


# 4.1 new models


def test_models_of_a_session_are_numbered_together(server: ServerInfo, base_model: str) -> None:
    with service_client(server.url, server.api_key) as client:
        session_id = client.holder.get_session_id()
        first = client.create_lora_training_client(base_model, rank=4).result()
        path = first.save_state("s").result().path
        second = client.create_training_client_from_state(path).result()
        third = client.create_lora_training_client(base_model, rank=4).result()
        ids = [training.model_id for training in (first, second, third)]
        assert ids == [f"{session_id}:train:{number}" for number in range(3)]


def test_equal_seeds_make_equal_adapters(service: tinker.ServiceClient, base_model: str, material: Material) -> None:
    after = [
        stepped(service.create_lora_training_client(base_model, rank=4, seed=seed).result(), material)
        for seed in (1, 1, 2)
    ]
    assert torch.equal(after[0], after[1])
    assert not torch.equal(after[0], after[2])


def test_a_fresh_adapter_changes_nothing(
    training: tinker.TrainingClient, base_sampler: tinker.SamplingClient, material: Material
) -> None:
    scores = base_sampler.compute_logprobs(material.prompt()).result()
    assert forward(training, [datum(material.question())]).tolist() == pytest.approx(scores[1:], abs=2e-5)


FLAGS = {
    "attention": ({"train_mlp": False, "train_unembed": False}, {"self_attn"}),
    "mlp": ({"train_attn": False, "train_unembed": False}, {"mlp"}),
    "head": ({"train_attn": False, "train_mlp": False}, {"unembed"}),
}


@pytest.mark.parametrize("flags", FLAGS)
def test_only_what_is_asked_for_is_trained(
    service: tinker.ServiceClient, rest: tinker.RestClient, base_model: str, flags: str, tmp_path: Path
) -> None:
    asked, parts = FLAGS[flags]
    training = service.create_lora_training_client(base_model, rank=2, **asked).result()
    urls = rest.get_external_weights_urls(training.save_weights_external("w").result().path).result().urls
    content = httpx.get(urls["adapter_model.safetensors"]).content
    named = set(safetensors.numpy.load(content))
    for part in ("self_attn", "mlp", "unembed"):
        assert any(part in name for name in named) == (part in parts)
    info = rest.get_weights_info_by_tinker_path(training.save_state("s").result().path).result()
    assert (info.train_attn, info.train_mlp, info.train_unembed) == tuple(
        asked.get(name, True) for name in ("train_attn", "train_mlp", "train_unembed")
    )


def test_the_default_rank_is_32(service: tinker.ServiceClient, base_model: str) -> None:
    assert service.create_lora_training_client(base_model).result().get_info().lora_rank == 32


@pytest.mark.parametrize("rank", [0, -4, 100_000])
def test_an_impossible_rank_is_refused(service: tinker.ServiceClient, base_model: str, rank: int) -> None:
    with pytest.raises(tinker.RequestFailedError, match="rank") as refusal:
        service.create_lora_training_client(base_model, rank=rank).result()
    assert refusal.value.category == "user"


def test_an_unknown_base_model_lists_the_served_ones(service: tinker.ServiceClient, base_model: str) -> None:
    with pytest.raises(tinker.RequestFailedError, match=base_model) as refusal:
        service.create_lora_training_client("nobody/nothing", rank=4).result()
    assert refusal.value.category == "user"


def test_another_optimizer_is_refused_by_name(service: tinker.ServiceClient, base_model: str) -> None:
    with pytest.raises(tinker.RequestFailedError, match=r"dimuon.*adamw") as refusal:
        service.create_lora_training_client(base_model, rank=4, optimizer=types.DimuonOptimizerConfig()).result()
    assert refusal.value.category == "user"


def test_metadata_comes_back_as_text(service: tinker.ServiceClient, rest: tinker.RestClient, base_model: str) -> None:
    metadata: Any = {"renderer_name": "qwen3_instruct", "seed": 3}
    training = service.create_lora_training_client(base_model, rank=4, user_metadata=metadata).result()
    path = training.save_state("found-again").result().path
    run = rest.get_training_run_by_tinker_path(path).result()
    assert (run.base_model, run.lora_rank) == (base_model, 4)
    assert run.user_metadata == {"renderer_name": "qwen3_instruct", "seed": "3"}


# 4.2 create by load


@pytest.fixture(scope="module")
def saved(service: tinker.ServiceClient, base_model: str, material: Material) -> str:
    training = service.create_lora_training_client(
        base_model, rank=8, train_unembed=False, user_metadata={"made": "first"}
    ).result()
    stepped(training, material)
    return training.save_state("for-others").result().path


def test_the_checkpoint_says_what_kind_of_model_it_makes(
    service: tinker.ServiceClient, rest: tinker.RestClient, saved: str, base_model: str
) -> None:
    made = service.create_training_client_from_state(saved, user_metadata={"made": "second"}).result()
    assert (made.get_info().lora_rank, made.get_info().model_data.model_name) == (8, base_model)
    assert rest.get_training_run(made.model_id).result().user_metadata == {"made": "second"}
    again = rest.get_weights_info_by_tinker_path(made.save_state("again").result().path).result()
    assert (again.lora_rank, again.train_unembed, again.train_attn) == (8, False, True)


def test_the_checkpoints_base_model_may_be_named(service: tinker.ServiceClient, saved: str, base_model: str) -> None:
    assert service.create_training_client_from_state(saved, base_model=base_model).result().get_info().lora_rank == 8
    with pytest.raises(tinker.RequestFailedError, match=base_model):
        service.create_training_client_from_state(saved, base_model="nobody/nothing").result()


def test_another_optimizer_is_refused_with_a_checkpoint_too(service: tinker.ServiceClient, saved: str) -> None:
    with pytest.raises(tinker.RequestFailedError, match="dimuon"):
        service.create_training_client_from_state(saved, optimizer=types.DimuonOptimizerConfig()).result()


@pytest.mark.parametrize("path", ["tinker://nobody:train:0/weights/none", "tinker://x", "no path at all"])
def test_what_is_no_checkpoint_cannot_be_loaded(service: tinker.ServiceClient, path: str) -> None:
    with pytest.raises(tinker.RequestFailedError, match=path.split("/")[-1]) as refusal:
        service.create_training_client_from_state(path).result()
    assert refusal.value.category == "user"


def test_sampler_weights_cannot_be_trained_on(service: tinker.ServiceClient, training: tinker.TrainingClient) -> None:
    path = training.save_weights_for_sampler("s").result().path
    with pytest.raises(tinker.RequestFailedError, match="sampler"):
        service.create_training_client_from_state(path).result()


# 4.3 info


def test_info_tells_what_the_adapter_is(training: tinker.TrainingClient, base_model: str) -> None:
    info = training.get_info()
    assert (info.model_id, info.is_lora, info.lora_rank) == (training.model_id, True, 4)
    assert info.model_data.model_name == info.model_name == base_model
    assert info.model_data.arch


def test_info_of_an_unknown_model_is_404(wire: httpx.Client) -> None:
    assert wire.post("get_info", json={"model_id": "none:train:0"}).status_code == 404


def test_the_tokenizer_comes_without_a_hub(training: tinker.TrainingClient, material: Material) -> None:
    tokenizer = training.get_tokenizer()
    text = "What is 3 + 4?"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    assert material.tokenizer.decode(material.question()).count("<|im_start|>") >= 2


# 4.4 the end


def test_a_run_outlives_its_session(server: ServerInfo, rest: tinker.RestClient, base_model: str) -> None:
    with service_client(server.url, server.api_key) as client:
        training = client.create_lora_training_client(base_model, rank=4).result()
        path = training.save_state("kept").result().path
    assert rest.get_training_run(training.model_id).result().base_model == base_model
    with service_client(server.url, server.api_key) as client:
        assert client.create_training_client_from_state(path).result().get_info().lora_rank == 4
