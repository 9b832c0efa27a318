"""Reading safetensors: what is missing is named, and the model's size is that of its files."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hone.engine.models.config import read_config
from hone.engine.models.load import LoadedModel
from hone.engine.models.weights import count_parameters, load_weights
from hone.errors import UserError
from tests.unit.engine.material import FAMILIES, reference_model


def without(directory: Path, tensor: str, target: Path) -> Path:
    shutil.copytree(directory, target)
    tensors = load_file(target / "model.safetensors")
    del tensors[tensor]
    save_file(tensors, target / "model.safetensors")
    return target


@pytest.mark.parametrize(
    ("family", "tensor"),
    [
        ("llama", "model.embed_tokens.weight"),
        ("llama", "lm_head.weight"),
        ("llama", "model.norm.weight"),
        ("llama", "model.layers.1.self_attn.k_proj.weight"),
        ("qwen3", "model.layers.0.self_attn.q_norm.weight"),
        ("qwen3", "model.layers.1.mlp.up_proj.weight"),
        ("qwen3_moe", "model.layers.0.mlp.gate.weight"),
        ("qwen3_moe", "model.layers.1.mlp.experts.5.down_proj.weight"),
    ],
)
def test_a_missing_tensor_is_named(
    family: str, tensor: str, model_directories: dict[str, Path], tmp_path: Path
) -> None:
    broken = without(model_directories[family], tensor, tmp_path / "broken")
    with pytest.raises(UserError, match=tensor):
        load_weights(broken, read_config(broken))


def test_a_directory_without_weights_is_refused(model_directories: dict[str, Path], tmp_path: Path) -> None:
    shutil.copy(model_directories["qwen3"] / "config.json", tmp_path)
    with pytest.raises(UserError, match=r"no \*\.safetensors"):
        load_weights(tmp_path, read_config(tmp_path))


def test_a_checkpoint_in_several_files_is_one_model(model_directories: dict[str, Path], tmp_path: Path) -> None:
    whole = model_directories["llama"]
    tensors = load_file(whole / "model.safetensors")
    names = sorted(tensors)
    for i in range(3):
        save_file({n: tensors[n] for n in names[i::3]}, tmp_path / f"model-{i}.safetensors")
    config = read_config(whole)
    one, several = load_weights(whole, config), load_weights(tmp_path, config)
    assert torch.equal(one.head, several.head)
    for a, b in zip(one.layers, several.layers, strict=True):
        assert torch.equal(a.qkv, b.qkv)
        assert torch.equal(a.mlp.down, b.mlp.down)


def test_half_precision_files_become_full_precision_models(model_directories: dict[str, Path], tmp_path: Path) -> None:
    directory = model_directories["qwen3"]
    tensors = {n: t.bfloat16() for n, t in load_file(directory / "model.safetensors").items()}
    save_file(tensors, tmp_path / "model.safetensors")
    weights = load_weights(tmp_path, read_config(directory))
    assert weights.head.dtype == torch.float32
    assert torch.equal(weights.head, tensors["lm_head.weight"].float())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_parameter_count_is_that_of_transformers(family: str, models: dict[str, LoadedModel]) -> None:
    model = models[family]
    wanted = sum(p.numel() for p in reference_model(family).parameters())
    assert count_parameters(model.config, model.decoder.weights) == wanted
