"""Exports as other tools read them: PEFT and the cookbook make models of them that compute what ours does."""

import copy
import json
from pathlib import Path

import numpy as np
import peft
import pyrage
import pytest
import torch
import transformers
from safetensors.torch import load_file

from hone.engine.checkpoints import capture
from hone.engine.exports import parse_recipients, rewrite_for_peft, write_export
from hone.engine.lora.state import AdapterState
from hone.engine.models.load import LoadedModel
from hone.errors import UserError
from hone.protocol.types import LoraConfig
from tests.unit.engine.material import (
    forward_backward,
    random_datum,
    reference_logprobs,
    reference_model,
    save_model,
    trained_adapter,
)

TOLERANCE = 1e-4
"""Nats."""
ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN alice@example"


def export(state: AdapterState, directory: Path, recipients: list[str] | None = None) -> int:
    image = capture(state, with_optimizer=False)
    return write_export(image, "base", directory, parse_recipients(recipients or []), "not asked for")


def check_same(theirs: torch.nn.Module, model: LoadedModel, state: AdapterState, family: str) -> None:
    datum = random_datum(np.random.default_rng(3), 30)
    targets = datum.loss_inputs["target_tokens"]
    (found,) = forward_backward(model.decoder, state, [datum])
    plain = reference_logprobs(reference_model(family), datum.tokens, targets)
    assert np.abs(found.logprobs[0] - plain).max() > 0.01, "the adapter changes something"
    assert np.abs(found.logprobs[0] - reference_logprobs(theirs, datum.tokens, targets)).max() < TOLERANCE


def test_an_export_holds_the_two_files_and_a_report(qwen3: LoadedModel, tmp_path: Path) -> None:
    size = export(trained_adapter(qwen3.config, LoraConfig(4, 1)), tmp_path / "e")
    files = {file.name: file.stat().st_size for file in (tmp_path / "e").iterdir()}
    assert set(files) == {"adapter_config.json", "adapter_model.safetensors", "hone_export.json"}
    assert size == sum(files.values())
    config = json.loads((tmp_path / "e" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 4, 32.0)
    names = load_file(tmp_path / "e" / "adapter_model.safetensors")
    assert "base_model.model.model.unembed_tokens.lora_A.weight" in names


def test_expert_matrices_have_three_dimensions(models: dict[str, LoadedModel], tmp_path: Path) -> None:
    config = models["qwen3_moe"].config
    export(trained_adapter(config, LoraConfig(4, 1)), tmp_path / "e")
    tensors = load_file(tmp_path / "e" / "adapter_model.safetensors")
    shapes = {
        name.partition("experts.")[2]: list(tensor.shape)
        for name, tensor in tensors.items()
        if "layers.0.mlp.experts" in name
    }
    hidden, size, experts = config.hidden_size, config.expert_intermediate_size, config.experts
    assert shapes == {
        "w1.lora_A.weight": [1, 4, hidden],
        "w1.lora_B.weight": [experts, size, 4],
        "w3.lora_A.weight": [1, 4, hidden],
        "w3.lora_B.weight": [experts, size, 4],
        "w2.lora_A.weight": [experts, 4, size],
        "w2.lora_B.weight": [1, hidden, 4],
    }


@pytest.mark.parametrize(
    ("family", "unembed"), [("qwen3", True), ("llama", True), ("qwen3_moe", True), ("qwen3_tied", False)]
)
def test_the_cookbook_merges_an_export_into_the_same_model(
    family: str, unembed: bool, models: dict[str, LoadedModel], tmp_path: Path
) -> None:
    weights = pytest.importorskip("tinker_cookbook.weights")
    base = save_model(family, tmp_path / "base")
    state = trained_adapter(models[family].config, LoraConfig(4, 1, train_unembed=unembed))
    export(state, tmp_path / "e")
    weights.build_lora_adapter(base_model=str(base), adapter_path=str(tmp_path / "e"), output_path=str(tmp_path / "l"))
    weights.build_hf_model(
        base_model=str(base), adapter_path=str(tmp_path / "e"), output_path=str(tmp_path / "m"), dtype="float32"
    )
    merged = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32)
    check_same(merged.eval(), models[family], state, family)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")  # it says that merging would not be exact
# It looks for the patterns among modules only, and follows them for parameters all the same.
@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys did not match:RuntimeWarning")
@pytest.mark.parametrize("family", ["qwen3", "qwen3_tied", "llama", "qwen3_moe", "qwen3_moe_raw_shares"])
def test_plain_peft_loads_the_second_form_head_included(
    family: str, models: dict[str, LoadedModel], tmp_path: Path
) -> None:
    state = trained_adapter(models[family].config, LoraConfig(4, 1))
    export(state, tmp_path / "e")
    rewrite_for_peft(tmp_path / "e", tmp_path / "p")
    theirs = peft.PeftModel.from_pretrained(copy.deepcopy(reference_model(family)), str(tmp_path / "p")).eval()
    check_same(theirs, models[family], state, family)


@pytest.mark.parametrize("family", ["qwen3_moe_dense_layer", "qwen3_moe_sparse_step"])
def test_what_plain_peft_cannot_hold_is_refused(family: str, models: dict[str, LoadedModel], tmp_path: Path) -> None:
    export(trained_adapter(models[family].config, LoraConfig(4, 1)), tmp_path / "e")
    with pytest.raises(UserError, match="experts in some layers"):
        rewrite_for_peft(tmp_path / "e", tmp_path / "p")


def test_what_is_no_export_or_would_overwrite_something_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no exported adapter"):
        rewrite_for_peft(tmp_path / "nothing", tmp_path / "p")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match="exists already"):
        rewrite_for_peft(tmp_path, tmp_path)


def test_every_file_is_encrypted_to_every_recipient(qwen3: LoadedModel, tmp_path: Path) -> None:
    state = trained_adapter(qwen3.config, LoraConfig(4, 1))
    one, two = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    export(state, tmp_path / "e", [str(one.to_public()), str(two.to_public()), ED25519])
    export(state, tmp_path / "plain")
    assert {file.name for file in (tmp_path / "e").iterdir()} == {
        "adapter_config.json.age",
        "adapter_model.safetensors.age",
        "hone_export.json.age",
    }
    for identity in (one, two):
        for file in (tmp_path / "plain").iterdir():
            assert pyrage.decrypt((tmp_path / "e" / f"{file.name}.age").read_bytes(), [identity]) == file.read_bytes()
    encrypted = (tmp_path / "e" / "adapter_model.safetensors.age").read_bytes()
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt(encrypted, [pyrage.x25519.Identity.generate()])


@pytest.mark.parametrize(
    "text", ["", "age1wrong", "ssh-ed25519 AAAA", "AGE-SECRET-KEY-1", "ssh-dss AAAAB3NzaC1kc3MAAACB"]
)
def test_what_is_no_public_key_is_the_users_mistake(text: str) -> None:
    with pytest.raises(UserError, match=r"age_encryption_recipients\[1\]"):
        parse_recipients([ED25519, text])
