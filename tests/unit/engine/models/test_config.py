"""Reading config.json: the numbers, and refusing what the decoder cannot run."""

import json
from pathlib import Path
from typing import Any

import pytest

from hone.engine.models.config import Llama3Rope, parse_config, read_config
from hone.errors import UserError

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
}
MOE = {
    **LLAMA,
    "architectures": ["Qwen3MoeForCausalLM"],
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
}
ROPE = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "GPT2LMHeadModel"),
        ({"architectures": None}, "none"),
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "yarn"),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, "linear"),
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4}}, "dynamic"),
    ],
)
def test_what_the_decoder_cannot_run_is_refused_by_name(change: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        parse_config({**LLAMA, **change})


def test_a_refusal_says_where_it_was_found() -> None:
    with pytest.raises(UserError, match="some/dir"):
        parse_config({**LLAMA, "mlp_bias": True}, where="some/dir")


def test_numbers_are_read() -> None:
    config = parse_config({**LLAMA, "rope_theta": 500000.0, "tie_word_embeddings": True})
    assert (config.vocab_size, config.hidden_size, config.layers) == (100, 32, 4)
    assert (config.heads, config.kv_heads, config.head_dim) == (4, 2, 8)
    assert (config.max_context, config.rms_norm_eps, config.rope_theta) == (128, 1e-5, 500000.0)
    assert config.tie_embeddings
    assert not config.qk_norm


def test_without_key_value_heads_every_head_has_its_own() -> None:
    raw = {k: v for k, v in LLAMA.items() if k != "num_key_value_heads"}
    assert parse_config(raw).kv_heads == 4


@pytest.mark.parametrize(
    "written",
    [
        {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **ROPE}},
        {"rope_theta": 5e5, "rope_scaling": {"type": "llama3", **ROPE}},
        {"rope_parameters": {"rope_theta": 5e5, "rope_type": "llama3", **ROPE}},
    ],
    ids=["two keys", "old name", "one object"],
)
def test_rope_scaling_in_every_spelling(written: dict[str, Any]) -> None:
    config = parse_config({**LLAMA, **written})
    assert config.rope_theta == 5e5
    assert config.rope_scaling == Llama3Rope(8.0, 1.0, 4.0, 64)


def test_dense_layers_of_a_mixture_of_experts() -> None:
    assert parse_config(MOE).dense_layers == frozenset()
    assert parse_config({**MOE, "decoder_sparse_step": 2}).dense_layers == {0, 2}
    both = parse_config({**MOE, "decoder_sparse_step": 2, "mlp_only_layers": [3]})
    assert [both.is_moe(i) for i in range(4)] == [False, True, False, False]


def test_a_dense_model_has_no_experts_whatever_its_config_says() -> None:
    config = parse_config({**MOE, "architectures": ["Qwen3ForCausalLM"]})
    assert [config.is_moe(i) for i in range(4)] == [False] * 4
    assert config.qk_norm


@pytest.mark.parametrize(
    ("in_config", "in_generation", "wanted"),
    [(None, None, ()), (2, None, (2,)), ([2, 3], None, (2, 3)), (2, 5, (5,)), (2, [5, 6], (5, 6)), (2, 0, (0,))],
)
def test_generation_config_goes_first_for_the_end_of_sequence(
    in_config: Any, in_generation: Any, wanted: tuple[int, ...], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, "eos_token_id": in_config}))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": in_generation}))
    assert read_config(tmp_path).eos_token_ids == wanted


def test_a_directory_without_config_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json"):
        read_config(tmp_path)
