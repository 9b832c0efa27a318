"""The tensors of a base model, grouped as the decoder uses them, and how they are read from safetensors.

Projections that read the same input are stacked: one product instead of three. Norm weights are folded, see `norm.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hone.engine.models.config import ModelConfig
from hone.engine.models.norm import fold
from hone.errors import UserError


@dataclass(frozen=True)
class DenseMlp:
    gate_up: Tensor
    """[2*intermediate, hidden]"""
    down: Tensor
    """[hidden, intermediate]"""


@dataclass(frozen=True)
class MoeMlp:
    router: Tensor
    """[experts, hidden]"""
    gate_up: Tensor
    """[experts, 2*intermediate, hidden]"""
    down: Tensor
    """[experts, hidden, intermediate]"""


@dataclass(frozen=True)
class LayerWeights:
    attention_norm: Tensor
    qkv: Tensor
    """[(heads + 2*kv_heads)*head_dim, hidden]"""
    qk_norm: Tensor | None
    """[heads + kv_heads, head_dim], those of q_norm and k_norm, one row per head"""
    o: Tensor
    mlp_norm: Tensor
    mlp: DenseMlp | MoeMlp


@dataclass(frozen=True)
class ModelWeights:
    embedding: Tensor
    """[vocab, hidden]"""
    layers: tuple[LayerWeights, ...]
    final_norm: Tensor
    head: Tensor
    """[vocab, hidden]; the embedding itself when the two are tied"""


def assemble(config: ModelConfig, get: Callable[[str], Tensor], has: Callable[[str], bool]) -> ModelWeights:
    """Build the model from tensors by their Hugging Face names."""
    embedding = get("model.embed_tokens.weight")
    return ModelWeights(
        embedding=embedding,
        layers=tuple(_layer(config, i, get, has) for i in range(config.layers)),
        final_norm=fold(get("model.norm.weight")),
        head=embedding if config.tie_embeddings else get("lm_head.weight"),
    )


def _layer(config: ModelConfig, i: int, get: Callable[[str], Tensor], has: Callable[[str], bool]) -> LayerWeights:
    at = f"model.layers.{i}"
    return LayerWeights(
        attention_norm=fold(get(f"{at}.input_layernorm.weight")),
        qkv=torch.cat([get(f"{at}.self_attn.{n}_proj.weight") for n in "qkv"]),
        qk_norm=_qk_norm(config, at, get) if config.qk_norm else None,
        o=get(f"{at}.self_attn.o_proj.weight"),
        mlp_norm=fold(get(f"{at}.post_attention_layernorm.weight")),
        mlp=_moe(config, at, get, has) if config.is_moe(i) else _dense(at, get),
    )


def _qk_norm(config: ModelConfig, at: str, get: Callable[[str], Tensor]) -> Tensor:
    q, k = get(f"{at}.self_attn.q_norm.weight"), get(f"{at}.self_attn.k_norm.weight")
    return fold(torch.cat([q.expand(config.heads, -1), k.expand(config.kv_heads, -1)]))


def _dense(at: str, get: Callable[[str], Tensor]) -> DenseMlp:
    gate_up = torch.cat([get(f"{at}.mlp.gate_proj.weight"), get(f"{at}.mlp.up_proj.weight")])
    return DenseMlp(gate_up, get(f"{at}.mlp.down_proj.weight"))


def _moe(config: ModelConfig, at: str, get: Callable[[str], Tensor], has: Callable[[str], bool]) -> MoeMlp:
    router, experts = get(f"{at}.mlp.gate.weight"), f"{at}.mlp.experts"
    if has(f"{experts}.gate_up_proj"):  # the fused form that newer transformers versions keep in memory
        return MoeMlp(router, get(f"{experts}.gate_up_proj"), get(f"{experts}.down_proj"))
    each = [f"{experts}.{e}" for e in range(config.experts)]
    gate_up = [torch.cat([get(f"{e}.gate_proj.weight"), get(f"{e}.up_proj.weight")]) for e in each]
    return MoeMlp(router, torch.stack(gate_up), torch.stack([get(f"{e}.down_proj.weight") for e in each]))


def load_weights(
    directory: Path,
    config: ModelConfig,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> ModelWeights:
    """Read every `*.safetensors` file of a Hugging Face directory, tensor by tensor to the device; `UserError` names
    the first missing tensor."""
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise UserError(f"{directory} holds no *.safetensors file; convert the model with save_pretrained first")
    handles = [_open(file) for file in files]
    home = {name: handle for handle in handles for name in handle.keys()}  # noqa: SIM118 - not a dict

    def get(name: str) -> Tensor:
        if name not in home:
            raise UserError(f"{directory} lacks the tensor {name!r} that a {config.architecture} model needs")
        tensor: Tensor = home[name].get_tensor(name)
        return tensor.to(device, dtype)

    return assemble(config, get, lambda name: name in home)


def _open(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} cannot be read as safetensors ({error}); copy or convert it again") from None


def count_parameters(config: ModelConfig, weights: ModelWeights) -> int:
    """As the checkpoint has them: tied heads and stacked norms count once."""
    tensors = [weights.embedding, weights.final_norm]
    if not config.tie_embeddings:
        tensors.append(weights.head)
    for layer in weights.layers:
        tensors += [layer.attention_norm, layer.qkv, layer.o, layer.mlp_norm, layer.mlp.gate_up, layer.mlp.down]
        if isinstance(layer.mlp, MoeMlp):
            tensors.append(layer.mlp.router)
    norms = 2 * config.head_dim * config.layers if config.qk_norm else 0
    return sum(t.numel() for t in tensors) + norms
