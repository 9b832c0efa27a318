"""What transformers says about a model that our decoder does not run: its sizes, and which of its projections can be
trained."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hone.engine.models.config import ModelConfig, ModuleShape, OtherArchitecture
from hone.errors import UserError

_MLP = re.compile(r"mlp|feed_forward|ffn|moe|expert|fc\d|dense_h_to_4h|dense_4h_to_h", re.IGNORECASE)
_UNTRAINED = re.compile(
    r"(^|[._])(vision|visual|audio|router|indexer|mtp|gate$|shared_expert_gate$|dt_proj$)|experts\.\d", re.IGNORECASE
)
"""Routers have no LoRA; towers and heads that text does not pass cannot be trained by it, and Mamba reads the weights
of dt_proj without calling it."""


def read_hf_config(directory: Path, refused: OtherArchitecture | None = None) -> tuple[ModelConfig, Any]:
    """Ours and transformers'; `UserError` if transformers has no causal language model for it. `refused` says why our
    own decoder does not run it."""
    transformers: Any = import_module("transformers")  # on use: it takes seconds

    why = f" ({refused})" if refused else ""
    try:
        raw = transformers.AutoConfig.from_pretrained(directory, trust_remote_code=False)
    except (ValueError, KeyError, OSError) as error:
        said = str(error).strip().splitlines()[0]
        raise UserError(f"{directory}: transformers {transformers.__version__} cannot read it: {said}{why}") from None
    found = f"{directory}: {', '.join(raw.architectures or ['(no architecture)'])}"
    wanted = "transformers runs decoders with a causal language model head here"
    if getattr(raw, "is_encoder_decoder", False):
        raise UserError(f"{found} is an encoder with a decoder, which is not supported; {wanted}{why}")
    if auto_class(raw) is None:
        raise UserError(f"{found} has no causal language model head in transformers; {wanted}{why}")
    if getattr(raw, "quantization_config", None):
        raise UserError(f"{found} has quantised weights, which is not supported; save it as float32 or bfloat16 first")
    with torch.device("meta"):
        model = auto_class(raw).from_config(raw)
    head: Any = model.get_output_embeddings()
    if type(head).__name__ != "Linear" or head.bias is not None:
        raise UserError(f"{found} has a head that is no plain projection of hidden states; {wanted}{why}")
    text = raw.get_text_config()
    return ModelConfig(
        architecture=text.model_type,
        vocab_size=head.out_features,
        hidden_size=head.in_features,
        layers=int(text.num_hidden_layers),
        heads=int(getattr(text, "num_attention_heads", 1)),
        kv_heads=1,
        head_dim=1,
        intermediate_size=0,
        max_context=int(getattr(text, "max_position_embeddings", None) or 2048),
        rms_norm_eps=0.0,
        rope_theta=0.0,
        rope_scaling=None,
        tie_embeddings=bool(getattr(text, "tie_word_embeddings", raw.tie_word_embeddings)),
        qk_norm=False,
        eos_token_ids=_eos(directory, text),
        modules=tuple(_modules(model)),
        logit_cap=float(getattr(text, "final_logit_softcapping", None) or 0.0),
    ), raw


def auto_class(raw: Any) -> Any:
    """Which of transformers' families of models has this one: those that read images too, if it is one of them; None if
    it is no causal language model."""
    transformers: Any = import_module("transformers")

    plain, seeing = transformers.MODEL_FOR_CAUSAL_LM_MAPPING, transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    if type(raw) in seeing and (type(raw) not in plain or raw.architectures == [seeing[type(raw)].__name__]):
        return transformers.AutoModelForImageTextToText
    return transformers.AutoModelForCausalLM if type(raw) in plain else None


def is_experts(module: nn.Module) -> bool:
    """Whether the experts' products go through `ExpertsInterface`."""
    return hasattr(module, "is_concatenated") and hasattr(module, "down_proj")


def is_linear(module: nn.Module) -> bool:
    """Whether this is a linear layer and nothing more; some models of old keep the weights the other way round."""
    from transformers.pytorch_utils import Conv1D

    return type(module) in (nn.Linear, Conv1D)


def _modules(model: Any) -> list[ModuleShape]:
    shapes = []
    for name, module in model.named_modules():
        if not re.search(r"\.\d+\.", name) or _UNTRAINED.search(name):
            continue
        in_mlp = bool(_MLP.search(name))
        if is_experts(module):
            count, first, second = module.down_proj.shape
            inputs, size = (second, first) if module.is_transposed else (first, second)
            stacked = name.endswith("mlp.experts") and module.has_gate and module.is_concatenated
            stacked = stacked and not module.is_transposed
            shapes.append(ModuleShape(name, inputs, size, True, count, bool(module.has_gate), bool(stacked)))
        elif is_linear(module):
            sizes = tuple(module.weight.shape)
            outputs, inputs = sizes if isinstance(module, nn.Linear) else sizes[::-1]
            shapes.append(ModuleShape(name, inputs, outputs, in_mlp))
    return shapes


def _eos(directory: Path, text: Any) -> tuple[int, ...]:
    transformers: Any = import_module("transformers")  # on use: it takes seconds

    eos = getattr(text, "eos_token_id", None)
    if (directory / "generation_config.json").is_file():
        generation = transformers.GenerationConfig.from_pretrained(directory)
        eos = eos if generation.eos_token_id is None else generation.eos_token_id
    return tuple(eos) if isinstance(eos, list | tuple) else () if eos is None else (int(eos),)
