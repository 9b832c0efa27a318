"""Section 13: weights leave and come back: exports, encryption, copies, the command line, other tools, imports."""

import contextlib
import io
import json
from pathlib import Path

import peft
import pyrage
import pytest
import tinker
import torch
import transformers

from hone.cli.main import main
from hone.client.connect import service_client
from hone.client.embedded import ServerInfo, embedded_server
from tests.contract.conftest import Cli, cli_of
from tests.contract.material import STEP, TOLERANCE, Material, datum, forward

PARITY = 1e-4
"""Nats between this server and transformers, in float32."""
FILES = {"adapter_config.json", "adapter_model.safetensors", "hone_export.json"}
TINY = Path(__file__).parents[2] / "src" / "hone" / "assets" / "tiny"


@pytest.fixture
def trained(training: tinker.TrainingClient, material: Material) -> tinker.TrainingClient:
    for _ in range(3):
        training.forward_backward([datum(material.sequence(1))], "cross_entropy")
        training.optim_step(STEP).result()
    return training


def check_parity(adapter: Path, trained: tinker.TrainingClient, material: Material, scratch: Path) -> None:
    """transformers with the adapter gives the log-probabilities that the server gives."""
    assert main(["checkpoint", "convert", str(adapter), str(scratch / "peft")]) == 0
    base = transformers.AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, str(scratch / "peft")).eval()
    tokens = torch.tensor([material.question()])
    with torch.no_grad():
        logits = model(tokens).logits[0, :-1].float()
    found = torch.log_softmax(logits, -1).gather(1, tokens[0, 1:, None])[:, 0]
    wanted = forward(trained, [datum(material.question())])
    assert (found - wanted).abs().max() < PARITY


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
def test_the_command_line_downloads_an_export_that_peft_loads(
    cli: Cli, trained: tinker.TrainingClient, material: Material, tmp_path: Path
) -> None:
    path = trained.save_weights_external("out").result().path
    cli("checkpoint", "download", path, "--output", str(tmp_path))
    (config,) = tmp_path.rglob("adapter_config.json")
    assert {file.name for file in config.parent.iterdir()} == FILES
    check_parity(config.parent, trained, material, tmp_path)


def test_the_cookbook_downloads_a_training_checkpoint_encrypted(
    server: ServerInfo,
    trained: tinker.TrainingClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights = pytest.importorskip("tinker_cookbook.weights")
    monkeypatch.setenv("TINKER_API_KEY", server.api_key)
    path = trained.save_state("state").result().path
    adapter = weights.download(tinker_path=path, output_dir=str(tmp_path / "a"), base_url=server.url)
    assert {file.name for file in Path(adapter).iterdir()} == FILES


def test_an_export_can_be_read_with_the_key_alone(
    rest: tinker.RestClient, trained: tinker.TrainingClient, tmp_path: Path
) -> None:
    import urllib.request

    identity = pyrage.x25519.Identity.generate()
    path = trained.save_weights_external("secret", age_encryption_recipients=[str(identity.to_public())]).result().path
    given = rest.get_external_weights_urls(path).result()
    assert set(given.urls) == {f"{name}.age" for name in FILES}
    with urllib.request.urlopen(given.urls["adapter_config.json.age"]) as response:
        content = response.read()
    assert b"LORA" not in content
    assert json.loads(pyrage.decrypt(content, [identity]))["peft_type"] == "LORA"


@pytest.mark.slow
def test_an_export_tells_how_well_transformers_computes_the_same(further_servers: None, tmp_path: Path) -> None:
    with embedded_server() as server, service_client(server.url, server.api_key) as client:
        training = client.create_lora_training_client(server.models[0], rank=4, seed=7).result()
        training.forward_backward([datum([9, 8, 7, 6, 5])], "cross_entropy")
        training.optim_step(STEP).result()
        path = training.save_weights_external("out").result().path
        cli_of(server, tmp_path)("checkpoint", "download", path, "--output", str(tmp_path))
    (report,) = tmp_path.rglob("hone_export.json")
    parity = json.loads(report.read_text())["parity"]
    assert parity["within_tolerance"] is True, parity
    assert 0 < parity["max_difference_nats"] <= PARITY


def test_every_path_is_one_that_the_sdk_reads(training: tinker.TrainingClient) -> None:
    paths = {
        "training": training.save_state("p").result().path,
        "sampler": training.save_weights_for_sampler("p").result().path,
        "external": training.save_weights_external("p").result().path,
    }
    for kind, path in paths.items():
        parsed = tinker.ParsedCheckpointTinkerPath.from_tinker_path(path)
        assert (parsed.training_run_id, parsed.checkpoint_type) == (training.model_id, kind)
        assert parsed.checkpoint_id == path.split("/", 3)[3]


def test_a_wrong_recipient_is_the_users_mistake(training: tinker.TrainingClient) -> None:
    with pytest.raises(tinker.RequestFailedError, match="age_encryption_recipients") as refusal:
        training.save_weights_external("x", age_encryption_recipients=["age1wrong"]).result()
    assert refusal.value.category == "user"


def test_a_copy_goes_on_where_its_source_was(
    service: tinker.ServiceClient,
    rest: tinker.RestClient,
    trained: tinker.TrainingClient,
    base_model: str,
    material: Material,
) -> None:
    state = trained.save_state("source").result().path
    sampler = trained.save_weights_for_sampler("source").result().path
    copied = rest.copy_weights(state, "default").result()
    sampled = rest.copy_weights(sampler, "default", ttl_seconds=3600).result()
    rest.delete_checkpoint_from_tinker_path(state).result()
    rest.delete_checkpoint_from_tinker_path(sampler).result()
    data = [datum(material.question())]
    wanted = forward(trained, data)
    assert torch.equal(forward(service.create_training_client_from_state_with_optimizer(copied).result(), data), wanted)
    scores = service.create_sampling_client(model_path=sampled).result().compute_logprobs(material.prompt()).result()
    assert scores[1:] == pytest.approx(wanted.tolist(), abs=TOLERANCE)
    assert rest.get_training_run_by_tinker_path(copied).result().base_model == base_model


@pytest.mark.slow
def test_an_imported_adapter_becomes_a_training_run(
    cli: Cli, trained: tinker.TrainingClient, material: Material, further_servers: None, tmp_path: Path
) -> None:
    path = trained.save_weights_external("out").result().path
    cli("checkpoint", "download", path, "--output", str(tmp_path / "d"))
    (config,) = (tmp_path / "d").rglob("adapter_config.json")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(["checkpoint", "import", str(config.parent), "--data-dir", str(tmp_path / "new"), "--json"]) == 0
    imported = json.loads(printed.getvalue())["tinker_path"]
    data = [datum(material.question())]
    wanted = forward(trained, data)
    with embedded_server(tmp_path / "new") as other, service_client(other.url, other.api_key) as client:
        resumed = client.create_training_client_from_state(imported).result()
        assert torch.equal(forward(resumed, data), wanted)
        resumed.forward_backward(data, "cross_entropy")
        resumed.optim_step(STEP).result()
        assert not torch.equal(forward(resumed, data), wanted)
