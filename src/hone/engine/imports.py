"""Adapters that other tools made, as adapters of ours: PEFT's names, scale and choice of modules become ours.

Modules that the other adapter left alone start as in a new adapter: A drawn, B zero, so they change nothing yet and
can be trained. The scale `alpha / rank` is folded into B.
"""

import json
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hone.engine.checkpoints import CONFIG_FILE, MODEL_FILE, PREFIX
from hone.engine.lora.layout import ALPHA, site_groups
from hone.engine.lora.state import AdapterState, new_adapter
from hone.engine.models.config import ModelConfig
from hone.errors import UserError
from hone.protocol.types import LoraConfig

HEADS = {"lm_head": "model.unembed_tokens"}
"""Other names of the head."""

_KEY = re.compile(re.escape(PREFIX) + r"(?P<site>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight")
_UNSUPPORTED = (
    "use_dora",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "layer_replication",
    "trainable_token_indices",
)


def read_peft(directory: Path, model_config: ModelConfig, seed: int = 0) -> AdapterState:
    """The PEFT adapter in `directory`; `UserError` if it is not one that this engine could have made itself."""
    config = _read_config(directory)
    matrices = _read_matrices(directory)
    sites = {site for site, _ in matrices}
    lora = LoraConfig(
        rank=int(config["r"]),
        seed=seed,
        train_unembed=_trains(model_config, sites, "train_unembed"),
        train_mlp=_trains(model_config, sites, "train_mlp"),
        train_attn=_trains(model_config, sites, "train_attn"),
    )
    state = new_adapter(model_config, lora)
    scale = float(config["lora_alpha"]) / (lora.rank**0.5 if config.get("use_rslora") else lora.rank)
    views = state.layout.site_views(state.weights)
    unknown = sorted(sites - set(views))
    if unknown:
        raise UserError(f"{directory.name}: {unknown[0]} is no module of this base model that LoRA can train here")
    for site in sites:
        for side, view in zip("AB", views[site], strict=True):
            found = matrices.get((site, side))
            if found is not None and found.ndim == view.ndim + 1 and len(found) == 1:
                found = found[0]  # shared by the experts
            if found is None or found.shape != view.shape:
                shape = "nothing" if found is None else list(found.shape)
                raise UserError(f"{directory.name}: {site}.lora_{side} should be {list(view.shape)}, found {shape}")
            view.copy_(found)
        views[site][1].mul_(scale * lora.rank / ALPHA)
    return state


def _trains(model_config: ModelConfig, sites: set[str], flag: str) -> bool:
    """Whether any of `sites` is one that `flag` is about."""
    flags = {name: name == flag for name in ("train_unembed", "train_mlp", "train_attn")}
    return any(
        site.name in sites for group in site_groups(model_config, LoraConfig(1, 0, **flags)) for site in group.sites
    )


def _read_config(directory: Path) -> dict[str, Any]:
    file = directory / CONFIG_FILE
    try:
        config: Any = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{directory} is not a PEFT adapter: it has no {CONFIG_FILE}") from None
    except ValueError as error:
        raise UserError(f"{file} is not JSON: {error}") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise UserError(f"{file} describes no LoRA adapter: it needs peft_type LORA")
    if not isinstance(config.get("r"), int) or config["r"] < 1 or not isinstance(config.get("lora_alpha"), int | float):
        raise UserError(f"{file} describes no LoRA adapter: it needs the numbers r and lora_alpha")
    for key in _UNSUPPORTED:
        if config.get(key):
            raise UserError(f"{file}: {key} is not supported; only plain LoRA of one rank can be imported")
    if config.get("bias", "none") != "none":
        raise UserError(f"{file}: bias {config['bias']!r} is not supported; only 'none' is")
    return dict(config)


def _read_matrices(directory: Path) -> dict[tuple[str, str], Tensor]:
    """By site and side, A or B."""
    file = directory / MODEL_FILE
    if not file.is_file():
        raise UserError(f"{directory} is not a PEFT adapter: it has no {MODEL_FILE}")
    try:
        tensors = load_file(file)
    except SafetensorError as error:
        raise UserError(f"{file} is not a safetensors file: {error}") from None
    matrices = {}
    for key, tensor in tensors.items():
        if key == f"{PREFIX}lm_head.base_layer.weight":
            continue  # PEFT saves the base model's head beside an adapter of it
        match = _KEY.fullmatch(key)
        if match is None:
            raise UserError(f"{file}: {key} is no LoRA matrix; only plain LoRA can be imported")
        site = HEADS.get(match["site"], match["site"])
        matrices[site, match["side"]] = tensor
    if not matrices:
        raise UserError(f"{file} holds no LoRA matrices")
    return matrices
