"""Adapters for other tools: PEFT's two files, each encrypted with age (age-encryption.org) where that is asked for.

The head goes by the protocol's name, `unembed_tokens`, which the cookbook's tools expect; `rewrite_for_peft` makes the
form that plain `peft` loads.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyrage
from safetensors.torch import load_file, save, save_file

from hone.engine.checkpoints import (
    CONFIG_FILE,
    MODEL_FILE,
    PREFIX,
    AdapterImage,
    peft_config,
    peft_tensors,
    write_whole,
)
from hone.errors import UserError

SUFFIX = ".age"


def parse_recipients(recipients: Sequence[str]) -> list[Any]:
    """Native `age1...` keys and SSH public keys as age knows them; `UserError` for anything else."""
    return [_recipient(text.strip(), i) for i, text in enumerate(recipients)]


def write_export(image: AdapterImage, base_model: str, directory: Path, recipients: Sequence[Any]) -> int:
    """Write the two files to `directory`, which appears only when complete; returns its size in bytes."""

    def fill(building: Path) -> None:
        config = json.dumps(peft_config(image, base_model), indent=1) + "\n"
        files = {CONFIG_FILE: config.encode(), MODEL_FILE: save(peft_tensors(image), metadata={"format": "pt"})}
        for name, content in files.items():
            if recipients:
                (building / (name + SUFFIX)).write_bytes(pyrage.encrypt(content, list(recipients)))
            else:
                (building / name).write_bytes(content)

    return write_whole(directory, fill)


def rewrite_for_peft(source: Path, target: Path) -> None:
    """Write the export in `source` to `target` with the head under its name in Hugging Face models.

    With tied embeddings this is the only exact form: a tool that merges the head's LoRA changes the input embedding.
    """
    if not (source / MODEL_FILE).is_file() or not (source / CONFIG_FILE).is_file():
        raise UserError(f"{source} is no exported adapter: it lacks {MODEL_FILE} or {CONFIG_FILE}")
    if target.exists():
        raise UserError(f"{target} exists already; choose another directory")
    tensors, config = load_file(source / MODEL_FILE), json.loads((source / CONFIG_FILE).read_text(encoding="utf-8"))
    experts = next((name for name in tensors if ".experts." in name), None)
    if experts is not None:
        raise UserError(
            f"{source.name} trains experts ({experts}), which plain PEFT has no form for; "
            "merge it with tinker_cookbook.weights.build_hf_model, or serve it with build_lora_adapter"
        )
    head = f"{PREFIX}model.unembed_tokens."
    renamed = {name.replace(head, f"{PREFIX}lm_head."): tensor for name, tensor in tensors.items()}
    modules = sorted("lm_head" if module == "unembed_tokens" else module for module in config["target_modules"])

    def fill(building: Path) -> None:
        save_file(renamed, building / MODEL_FILE, metadata={"format": "pt"})
        content = json.dumps({**config, "target_modules": modules}, indent=1) + "\n"
        (building / CONFIG_FILE).write_text(content, encoding="utf-8")

    write_whole(target, fill)


def _recipient(text: str, index: int) -> Any:
    kind = pyrage.ssh if text.startswith("ssh-") else pyrage.x25519
    try:
        return kind.Recipient.from_str(text)
    except pyrage.RecipientError as error:
        raise UserError(
            f"age_encryption_recipients[{index}] is no public key of age: {error}; "
            "give age1... keys or SSH public keys (ssh-ed25519, ssh-rsa)"
        ) from None
