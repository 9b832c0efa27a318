"""Coming, going, and what a client can learn about the service."""

import tinker

from hone.client.embedded import ServerInfo
from tests.contract.material import Material


def test_leaving_the_block_finishes_the_session(server: ServerInfo) -> None:
    with tinker.ServiceClient(base_url=server.url, api_key=server.api_key) as client:
        sampler = client.create_sampling_client(base_model=server.models[0]).result()
        assert sampler.get_base_model() == server.models[0]


def test_capabilities_name_the_served_models(server: ServerInfo) -> None:
    rest = tinker.RestClient(base_url=server.url, api_key=server.api_key)
    capabilities = rest.get_server_capabilities().result()
    assert [model.model_name for model in capabilities.supported_models] == list(server.models)
    assert all(model.max_context_length for model in capabilities.supported_models)


def test_the_tokenizer_comes_without_a_hub(training: tinker.TrainingClient, material: Material) -> None:
    tokenizer = training.get_tokenizer()
    text = "What is 3 + 4?"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    assert material.tokenizer.decode(material.question()).count("<|im_start|>") >= 2


def test_info_tells_what_the_adapter_is(training: tinker.TrainingClient, base_model: str) -> None:
    info = training.get_info()
    assert info.model_data.model_name == base_model
    assert info.lora_rank == 4


def test_training_runs_keep_their_metadata(server: ServerInfo, service: tinker.ServiceClient, base_model: str) -> None:
    metadata = {"renderer_name": "qwen3_instruct"}
    training = service.create_lora_training_client(base_model, rank=4, user_metadata=metadata).result()
    path = training.save_state("found-again").result().path
    rest = tinker.RestClient(base_url=server.url, api_key=server.api_key)
    run = rest.get_training_run_by_tinker_path(path).result()
    assert run.base_model == base_model
    assert run.user_metadata == metadata
    assert run.lora_rank == 4
