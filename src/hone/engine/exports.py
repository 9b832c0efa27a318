"""Adapters for other tools: PEFT's two files and a report, each encrypted with age (age-encryption.org) on request.

The head goes by the protocol's name, `unembed_tokens`, and experts by `w1`, `w2` and `w3`, which the cookbook's tools
expect; `rewrite_for_peft` makes the form that plain `peft` loads.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyrage
import torch
from safetensors.torch import load_file, save, save_file
from torch import Tensor

from hone.engine.checkpoints import (
    CONFIG_FILE,
    MODEL_FILE,
    PREFIX,
    AdapterImage,
    peft_config,
    peft_tensors,
    write_whole,
)
from hone.engine.parity import Probe, compare
from hone.errors import UserError

SUFFIX = ".age"
REPORT_FILE = "hone_export.json"
"""Where the export comes from, and whether transformers computes the same with it."""

_EXPERTS = ".mlp.experts."
_GATE_UP, _DOWN = "mlp.experts.gate_up_proj", "mlp.experts.down_proj"
"""The experts of Hugging Face models from transformers 5 on."""


def parse_recipients(recipients: Sequence[str]) -> list[Any]:
    """Native `age1...` keys and SSH public keys as age knows them; `UserError` for anything else."""
    return [_recipient(text.strip(), i) for i, text in enumerate(recipients)]


def write_export(
    image: AdapterImage, base_model: str, directory: Path, recipients: Sequence[Any], probe: Probe | str
) -> int:
    """Write the files to `directory`, which appears only when complete; returns its size in bytes.

    `probe` is what the adapter computed here, to compare with, or says why nothing is compared.
    """

    def fill(building: Path) -> None:
        config, adapter = peft_config(image, base_model), save(peft_tensors(image), metadata={"format": "pt"})
        parity = {"checked": False, "why": probe} if isinstance(probe, str) else compare(probe, config, adapter)
        stacked = image.layout.stacked_experts
        report = {"base_model": base_model, "steps": image.steps, "stacked_experts": stacked, "parity": parity}
        files = {CONFIG_FILE: _json(config), MODEL_FILE: adapter, REPORT_FILE: _json(report)}
        for name, content in files.items():
            if recipients:
                (building / (name + SUFFIX)).write_bytes(pyrage.encrypt(content, list(recipients)))
            else:
                (building / name).write_bytes(content)

    return write_whole(directory, fill)


def rewrite_for_peft(source: Path, target: Path) -> None:
    """Write the export in `source` to `target` with the head under its name in Hugging Face models.

    With tied embeddings this is the only exact form: a tool that merges the head's LoRA changes the input embedding.
    Experts become PEFT's `target_parameters`, which need transformers 5.
    """
    if not (source / MODEL_FILE).is_file() or not (source / CONFIG_FILE).is_file():
        raise UserError(f"{source} is no exported adapter: it lacks {MODEL_FILE} or {CONFIG_FILE}")
    if target.exists():
        raise UserError(f"{target} exists already; choose another directory")
    tensors, config = load_file(source / MODEL_FILE), json.loads((source / CONFIG_FILE).read_text(encoding="utf-8"))
    head = f"{PREFIX}model.unembed_tokens."
    renamed = {name.replace(head, f"{PREFIX}lm_head."): tensor for name, tensor in tensors.items()}
    modules = {"lm_head" if module == "unembed_tokens" else module for module in config["target_modules"]}
    report = source / REPORT_FILE
    if report.is_file() and json.loads(report.read_text(encoding="utf-8")).get("stacked_experts") is False:
        raise UserError(
            f"{source.name} is for a model whose experts peft has no form for: they are interleaved, transposed or "
            "under another name; merge alpha / rank B A into the weights of each expert instead"
        )
    if any(_EXPERTS in name for name in renamed):
        if "gate_proj" in modules:
            raise UserError(
                f"{source.name} trains experts in some layers and dense projections in others, which peft confuses; "
                "merge it with tinker_cookbook.weights.build_hf_model, or serve it with build_lora_adapter"
            )
        renamed = _stack_experts(renamed)
        modules -= {"w1", "w2", "w3"}
        config |= {
            "target_parameters": [_GATE_UP, _DOWN],
            # gate and up are one parameter of the model, so their two pairs are one of twice the rank
            "rank_pattern": {_GATE_UP: 2 * config["r"]},
            "alpha_pattern": {_GATE_UP: 2 * config["lora_alpha"]},
        }

    def fill(building: Path) -> None:
        save_file(renamed, building / MODEL_FILE, metadata={"format": "pt"})
        (building / CONFIG_FILE).write_bytes(_json({**config, "target_modules": sorted(modules)}))

    write_whole(target, fill)


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()


def _stack_experts(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The experts' pairs as PEFT has them for parameters of three dimensions: A [E*R, I], and B [O, R*E], experts last.

    PEFT wraps the parameters of a module around each other, so that the inner one, gate and up, is the outer's
    `base_layer`.
    """
    stacked = {name: tensor for name, tensor in tensors.items() if _EXPERTS not in name}
    for layer in dict.fromkeys(name.partition(_EXPERTS)[0] for name in tensors if _EXPERTS in name):
        site = f"{layer}{_EXPERTS}"
        pairs = {w: [tensors[f"{site}{w}.lora_{side}.weight"] for side in "AB"] for w in ("w1", "w2", "w3")}
        experts = len(pairs["w2"][0])
        (gate_a, gate_b), (down_a, down_b), (up_a, up_b) = (
            [matrix.expand(experts, -1, -1) for matrix in pair] for pair in pairs.values()
        )
        both_a = torch.cat([gate_a, up_a], dim=1)
        both_b = torch.stack([torch.block_diag(gate, up) for gate, up in zip(gate_b, up_b, strict=True)])
        for name, a, b in ((f"{site}base_layer.", both_a, both_b), (site, down_a, down_b)):
            stacked[f"{name}lora_A.weight"] = a.reshape(-1, a.shape[-1]).contiguous()
            stacked[f"{name}lora_B.weight"] = b.permute(1, 2, 0).reshape(b.shape[1], -1).contiguous()
    return stacked


def _recipient(text: str, index: int) -> Any:
    kind = pyrage.ssh if text.startswith("ssh-") else pyrage.x25519
    try:
        return kind.Recipient.from_str(text)
    except pyrage.RecipientError as error:
        raise UserError(
            f"age_encryption_recipients[{index}] is no public key of age: {error}; "
            "give age1... keys or SSH public keys (ssh-ed25519, ssh-rsa)"
        ) from None
