"""Where LoRA matrices lie, and that there are as many parameters as in the hosted service's adapters."""

from itertools import product
from typing import Any

import pytest
import torch

from hone.engine.lora.layout import ALPHA, LoraLayout, site_groups
from hone.engine.models.config import ModelConfig, parse_config
from hone.engine.models.load import LoadedModel
from hone.protocol.types import LoraConfig


def shape(
    architecture: str, hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int, vocab: int, **more: Any
) -> ModelConfig:
    raw = {
        "architectures": [f"{architecture}ForCausalLM"],
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocab,
        "head_dim": 128,
        **more,
    }
    return parse_config(raw)


EXPERTS_30B = {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768}
EXPERTS_235B = {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 1536}

# the models' public config.json files; then parameters per rank of attention, MLP and head, as
# tinker_cookbook.hyperparam_utils lists them
PUBLIC: dict[str, tuple[ModelConfig, tuple[int, int, int]]] = {
    "meta-llama/Llama-3.2-1B": (
        shape("Llama", 2048, 8192, 16, 32, 8, 128256, head_dim=64, tie_word_embeddings=True),
        (212_992, 491_520, 130_304),
    ),
    "meta-llama/Llama-3.2-3B": (
        shape("Llama", 3072, 8192, 28, 24, 8, 128256, tie_word_embeddings=True),
        (573_440, 946_176, 131_328),
    ),
    "meta-llama/Llama-3.1-8B": (shape("Llama", 4096, 14336, 32, 32, 8, 128256), (851_968, 1_769_472, 132_352)),
    "meta-llama/Llama-3.3-70B-Instruct": (
        shape("Llama", 8192, 28672, 80, 64, 8, 128256),
        (4_096_000, 8_847_360, 136_448),
    ),
    "Qwen/Qwen3-4B-Instruct-2507": (
        shape("Qwen3", 2560, 9728, 36, 32, 8, 151936, tie_word_embeddings=True),
        (737_280, 1_327_104, 154_496),
    ),
    "Qwen/Qwen3-8B": (shape("Qwen3", 4096, 12288, 36, 32, 8, 151936), (958_464, 1_769_472, 156_032)),
    "Qwen/Qwen3-32B": (shape("Qwen3", 5120, 25600, 64, 64, 8, 151936), (2_490_368, 5_898_240, 157_056)),
    "Qwen/Qwen3-30B-A3B": (
        shape("Qwen3Moe", 2048, 6144, 48, 32, 4, 151936, **EXPERTS_30B),
        (835_584, 14_450_688, 153_984),
    ),
    "Qwen/Qwen3-235B-A22B-Instruct-2507": (
        shape("Qwen3Moe", 4096, 12288, 94, 64, 4, 151936, **EXPERTS_235B),
        (3_176_448, 56_598_528, 156_032),
    ),
}
FLAGS = [flags for flags in product((True, False), repeat=3) if any(flags)]


def size(config: ModelConfig, rank: int, attn: bool, mlp: bool, unembed: bool) -> int:
    return LoraLayout(config, LoraConfig(rank, 0, train_unembed=unembed, train_mlp=mlp, train_attn=attn)).size


@pytest.mark.parametrize("flags", FLAGS, ids=lambda f: "".join(n for n, on in zip("amu", f, strict=True) if on))
@pytest.mark.parametrize("name", PUBLIC)
def test_parameter_counts_of_public_models(name: str, flags: tuple[bool, bool, bool]) -> None:
    config, per_rank = PUBLIC[name]
    wanted = sum(count for count, on in zip(per_rank, flags, strict=True) if on)
    assert size(config, 1, *flags) == wanted
    assert size(config, 32, *flags) == 32 * wanted


@pytest.mark.parametrize("name", PUBLIC)
def test_the_cookbook_still_lists_these_counts(name: str) -> None:
    utils = pytest.importorskip("tinker_cookbook.hyperparam_utils")
    for flags in FLAGS:
        attn, mlp, unembed = flags
        wanted = utils.get_lora_param_count(name, lora_rank=8, train_attn=attn, train_mlp=mlp, train_unembed=unembed)
        assert size(PUBLIC[name][0], 8, *flags) == wanted


def test_every_number_of_the_vector_belongs_to_exactly_one_matrix(models: dict[str, LoadedModel]) -> None:
    for model in models.values():
        layout = LoraLayout(model.config, LoraConfig(rank=3, seed=0))
        flat = torch.zeros(layout.size)
        for a, b in layout.site_views(flat).values():
            a += 1
            b += 1
        assert torch.equal(flat, torch.ones(layout.size))


def test_groups_and_sites_show_the_same_numbers(qwen3: LoadedModel) -> None:
    layout = LoraLayout(qwen3.config, LoraConfig(rank=3, seed=0))
    flat = torch.randn(layout.size)
    groups, sites = layout.views(flat), layout.site_views(flat)
    qkv = groups["model.layers.1.qkv"]
    for i, name in enumerate(("q_proj", "k_proj", "v_proj")):
        a, b = sites[f"model.layers.1.self_attn.{name}"]
        assert torch.equal(qkv.a[3 * i : 3 * i + 3], a)
        assert torch.equal(qkv.b[i], b)


def test_experts_share_their_outer_matrices(moe: LoadedModel) -> None:
    config = moe.config
    layout = LoraLayout(config, LoraConfig(rank=3, seed=0))
    sites = layout.site_views(torch.zeros(layout.size))
    e, m, h = config.experts, config.expert_intermediate_size, config.hidden_size
    for name in ("w1", "w3"):
        a, b = sites[f"model.layers.0.mlp.experts.{name}"]
        assert (a.shape, b.shape) == ((3, h), (e, m, 3))
    a, b = sites["model.layers.0.mlp.experts.w2"]
    assert (a.shape, b.shape) == ((e, 3, m), (h, 3))


def test_flags_choose_the_groups(models: dict[str, LoadedModel]) -> None:
    config = models["qwen3_moe_dense_layer"].config

    def names(**flags: bool) -> set[str]:
        off = {"train_attn": False, "train_mlp": False, "train_unembed": False}
        return {g.name.rsplit(".", 1)[-1] for g in site_groups(config, LoraConfig(2, 0, **{**off, **flags}))}

    assert names(train_attn=True) == {"qkv", "o"}
    assert names(train_mlp=True) == {"gate_up", "down"}
    assert names(train_unembed=True) == {"head"}


def test_a_tied_head_gets_its_own_matrices(models: dict[str, LoadedModel]) -> None:
    config = models["qwen3_tied"].config
    assert config.tie_embeddings
    assert "model.unembed_tokens" in LoraLayout(config, LoraConfig(2, 0)).site_names


@pytest.mark.parametrize("rank", [1, 8, 32, 64])
def test_scale_is_alpha_over_rank(rank: int, qwen3: LoadedModel) -> None:
    assert ALPHA == 32
    assert LoraLayout(qwen3.config, LoraConfig(rank, 0)).scale == 32 / rank
