"""Small random models of the architectures that transformers runs for us."""

import functools
from typing import Any

import torch
import transformers

VOCAB = 199

SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
}
_HEADS = {**SHAPE, "head_dim": 8}
_WINDOW = {"sliding_window": 8}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
_DELTA = {
    "num_hidden_layers": 4,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
_DEEPSEEK = {
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 12,
}
_GRANITE = {"logits_scaling": 4.0, "attention_multiplier": 0.3, "residual_multiplier": 0.5}

PACKED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "cohere2": ("Cohere2Config", "Cohere2ForCausalLM", {**SHAPE, **_WINDOW, "logit_scale": 0.25}),
    "deepseek_v3": ("DeepseekV3Config", "DeepseekV3ForCausalLM", {**SHAPE, **_EXPERTS, **_DEEPSEEK}),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM", {**_HEADS, **_WINDOW, "query_pre_attn_scalar": 16}),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM", {**_HEADS, **_WINDOW}),
    "glm4": ("Glm4Config", "Glm4ForCausalLM", _HEADS),
    "glm4_moe": (
        "Glm4MoeConfig",
        "Glm4MoeForCausalLM",
        {**_HEADS, **_EXPERTS, "n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1},
    ),
    "gpt2": (
        "GPT2Config",
        "GPT2LMHeadModel",
        {"vocab_size": VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    ),
    "gpt_oss": ("GptOssConfig", "GptOssForCausalLM", {**_HEADS, **_WINDOW, **_EXPERTS, "num_local_experts": 4}),
    "granite": ("GraniteConfig", "GraniteForCausalLM", {**SHAPE, **_GRANITE}),
    "llama_with_bias": ("LlamaConfig", "LlamaForCausalLM", {**SHAPE, "attention_bias": True}),
    "mistral": ("MistralConfig", "MistralForCausalLM", {**SHAPE, **_WINDOW}),
    "mixtral": ("MixtralConfig", "MixtralForCausalLM", {**SHAPE, "num_local_experts": 4}),
    "olmo3": ("Olmo3Config", "Olmo3ForCausalLM", {**SHAPE, **_WINDOW}),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", SHAPE),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", SHAPE),
}
"""Run on packed rows, and from the paged cache."""
ALONE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "lfm2": ("Lfm2Config", "Lfm2ForCausalLM", {**SHAPE, "full_attn_idxs": [1]}),
    "mamba": (
        "MambaConfig",
        "MambaForCausalLM",
        {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
    ),
    "qwen3_next": (
        "Qwen3NextConfig",
        "Qwen3NextForCausalLM",
        {**_HEADS, **_DELTA, **_EXPERTS, "num_experts": 4, "shared_expert_intermediate_size": 32},
    ),
    "qwen3_5": ("Qwen3_5TextConfig", "Qwen3_5ForCausalLM", {**_HEADS, **_DELTA}),
}
"""Run sequence by sequence."""
MODELS = PACKED | ALONE


@functools.cache
def reference(name: str) -> Any:
    config_class, model_class, settings = MODELS[name]
    config = getattr(transformers, config_class)(**settings)
    config._attn_implementation = "eager"
    torch.manual_seed(17)
    model = getattr(transformers, model_class)(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.08)
    return model.requires_grad_(False)
