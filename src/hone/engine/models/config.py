"""Reads the `config.json` of a Hugging Face model directory into the few numbers that the decoder needs."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hone.errors import UserError

ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "Qwen3ForCausalLM": "qwen3",
    "Qwen3MoeForCausalLM": "qwen3_moe",
}


@dataclass(frozen=True)
class Llama3Rope:
    """The frequency scaling of Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, those between
    blended."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int


@dataclass(frozen=True)
class ModuleShape:
    """A projection, or the experts of one layer, of a model that transformers runs."""

    name: str
    """Module path."""
    inputs: int
    outputs: int
    """Of experts: the intermediate size."""
    mlp: bool
    """Trained under `train_mlp`; the others under `train_attn`."""
    experts: int = 0
    """0: one projection."""
    gated: bool = True
    """Experts have two first projections, of which one gates the other."""
    stacked: bool = True
    """The model holds experts as our decoder does: under `mlp.experts`, as [E, outputs, inputs], all gates before what
    they gate."""


@dataclass(frozen=True)
class ModelConfig:
    architecture: str
    vocab_size: int
    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int
    max_context: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: Llama3Rope | None
    tie_embeddings: bool
    qk_norm: bool
    experts: int = 0
    """0: every layer is dense."""
    experts_per_token: int = 0
    expert_intermediate_size: int = 0
    norm_topk_prob: bool = True
    dense_layers: frozenset[int] = frozenset()
    """Layers of a mixture-of-experts model that have an ordinary MLP."""
    eos_token_ids: tuple[int, ...] = ()
    modules: tuple[ModuleShape, ...] = ()
    """The projections of a model that transformers runs; empty for one that our decoder runs."""
    cached: bool = True
    """Whether a sequence can go on from cached keys and values; if not, every new token takes a pass over all of it."""
    logit_cap: float = 0.0
    """Logits z become cap tanh(z / cap); 0: they stay as they are."""

    def is_moe(self, layer: int) -> bool:
        return self.experts > 0 and layer not in self.dense_layers


class OtherArchitecture(UserError):
    """Our decoder does not run this model; transformers may, see `hf.py`."""


def read_config(directory: Path) -> ModelConfig:
    """The configuration of the model in `directory`; `OtherArchitecture` if our decoder cannot run it."""
    file = directory / "config.json"
    if not file.is_file():
        raise UserError(f"{directory} is not a Hugging Face model directory: it has no config.json")
    generation = directory / "generation_config.json"
    eos = _read_json(generation).get("eos_token_id") if generation.is_file() else None
    try:
        return parse_config(_read_json(file), eos_token_id=eos, where=str(directory))
    except KeyError as error:
        raise UserError(f"{file} lacks the key {error}, which describes the model's shape") from None


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is not JSON: {error}") from None
    return content


def parse_config(
    raw: dict[str, Any], eos_token_id: int | list[int] | None = None, where: str = "config"
) -> ModelConfig:
    """The same from the decoded JSON; `eos_token_id` (of generation_config.json) goes before the config's own."""
    names = raw.get("architectures") or ["(none)"]
    architecture = ARCHITECTURES.get(names[0])
    if architecture is None:
        raise OtherArchitecture(
            f"{where}: architecture {names[0]} is not supported; our decoder runs {', '.join(ARCHITECTURES)}"
        )
    if raw.get("attention_bias") or raw.get("mlp_bias"):
        raise OtherArchitecture(
            f"{where}: attention_bias and mlp_bias are not supported; our decoder's projections have no bias"
        )
    if raw.get("use_sliding_window"):
        raise OtherArchitecture(
            f"{where}: use_sliding_window is not supported; our decoder's attention is full and causal"
        )
    if raw.get("hidden_act", "silu") != "silu":
        raise OtherArchitecture(f"{where}: hidden_act {raw['hidden_act']!r} is not supported; our decoder has silu")
    # transformers 5 gathers the rotary settings in one object, older versions spread them over two keys
    rope = raw.get("rope_parameters") or {"rope_theta": raw.get("rope_theta"), **(raw.get("rope_scaling") or {})}
    moe = architecture == "qwen3_moe"
    layers = int(raw["num_hidden_layers"])
    step = int(raw.get("decoder_sparse_step", 1))
    dense = set(raw.get("mlp_only_layers") or ()) | {i for i in range(layers) if step > 1 and (i + 1) % step}
    eos = eos_token_id if eos_token_id is not None else raw.get("eos_token_id")
    return ModelConfig(
        architecture=architecture,
        vocab_size=int(raw["vocab_size"]),
        hidden_size=int(raw["hidden_size"]),
        layers=layers,
        heads=int(raw["num_attention_heads"]),
        kv_heads=int(raw.get("num_key_value_heads") or raw["num_attention_heads"]),
        head_dim=int(raw.get("head_dim") or raw["hidden_size"] // raw["num_attention_heads"]),
        intermediate_size=int(raw["intermediate_size"]),
        max_context=int(raw.get("max_position_embeddings", 2048)),
        rms_norm_eps=float(raw.get("rms_norm_eps", 1e-6)),
        rope_theta=float(rope.get("rope_theta") or 10000.0),
        rope_scaling=_rope_scaling(rope, where),
        tie_embeddings=bool(raw.get("tie_word_embeddings", False)),
        qk_norm=architecture != "llama",
        experts=int(raw.get("num_experts") or raw["num_local_experts"]) if moe else 0,
        experts_per_token=int(raw["num_experts_per_tok"]) if moe else 0,
        expert_intermediate_size=int(raw["moe_intermediate_size"]) if moe else 0,
        norm_topk_prob=bool(raw.get("norm_topk_prob", False)),
        dense_layers=frozenset(dense) if moe else frozenset(),
        eos_token_ids=tuple(eos) if isinstance(eos, list) else () if eos is None else (int(eos),),
    )


def _rope_scaling(rope: dict[str, Any], where: str) -> Llama3Rope | None:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return None
    if kind != "llama3":
        raise OtherArchitecture(
            f"{where}: rope scaling {kind!r} is not supported; our decoder has 'default' and 'llama3'"
        )
    return Llama3Rope(
        factor=float(rope["factor"]),
        low_freq_factor=float(rope["low_freq_factor"]),
        high_freq_factor=float(rope["high_freq_factor"]),
        original_context=int(rope["original_max_position_embeddings"]),
    )
