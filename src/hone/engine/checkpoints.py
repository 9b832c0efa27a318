"""Adapters on disk: a directory with PEFT's file names, readable by other tools, plus what continuing needs.

adapter_model.safetensors   LoRA matrices, `base_model.model.<module>.lora_A|B.weight`; of experts `[experts, ...]`,
                            with one entry where the experts share the matrix
adapter_config.json         rank, alpha, target modules (PEFT)
optimizer.safetensors       moments, and the gradient not yet stepped on, as flat vectors (training checkpoints)
hone.json                   configuration, step count, format; written last, so its presence means "complete"
"""

import dataclasses
import json
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hone.engine import lasting
from hone.engine.lasting import copied
from hone.engine.lora.layout import ALPHA, LoraLayout, lora_layout
from hone.engine.lora.state import AdapterState
from hone.engine.models.config import ModelConfig
from hone.errors import ServerError, UserError
from hone.protocol.types import LoraConfig

FORMAT = 1
MODEL_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
PREFIX = "base_model.model."


@dataclass(frozen=True)
class AdapterImage:
    """A copy of an adapter at one moment, which can be written while the adapter goes on."""

    lora: LoraConfig
    layout: LoraLayout
    weights: Tensor
    steps: int
    optimizer: dict[str, Tensor] | None
    """`moment1`, `moment2` and, if something was gathered, `gradient`"""

    @property
    def bytes(self) -> int:
        return self.weights.nbytes + sum(x.nbytes for x in (self.optimizer or {}).values())


def capture(state: AdapterState, with_optimizer: bool, with_gradient: bool = False) -> AdapterImage:
    optimizer = None
    if with_optimizer:
        optimizer = {"moment1": copied(state.moment1), "moment2": copied(state.moment2)}
        if with_gradient and state.gradient is not None:
            optimizer["gradient"] = copied(state.gradient)
    return AdapterImage(state.lora, state.layout, copied(state.weights), state.steps, optimizer)


def write_image(image: AdapterImage, base_model: str, directory: Path) -> int:
    """Write the image to `directory`, which appears only when complete; returns its size in bytes."""

    def fill(building: Path) -> None:
        save_file(peft_tensors(image), building / MODEL_FILE, metadata={"format": "pt"})
        _write_json(building / CONFIG_FILE, peft_config(image, base_model))
        if image.optimizer is not None:
            save_file({name: x.cpu() for name, x in image.optimizer.items()}, building / "optimizer.safetensors")
        meta = {
            "format": FORMAT,
            "base_model": base_model,
            "lora": dataclasses.asdict(image.lora),
            "steps": image.steps,
            "sites": list(image.layout.site_names),
        }
        _write_json(building / "hone.json", meta)

    return write_whole(directory, fill)


def write_whole(directory: Path, fill: Callable[[Path], None]) -> int:
    """Have `fill` write the files of `directory`, which appears only when they are durable; returns its size."""
    building = directory.with_name(f".{directory.name}.{uuid.uuid4().hex[:8]}")
    building.mkdir(parents=True)
    try:
        fill(building)
        for path in (*building.iterdir(), building):
            _sync(path)
        os.rename(building, directory)
        _sync(directory.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(building, ignore_errors=True)
        cause = getattr(error, "strerror", None) or error
        raise ServerError(f"could not write the checkpoint {directory.name}: {cause}") from error
    return sum(file.stat().st_size for file in directory.iterdir())


def read_adapter(directory: Path, model_config: ModelConfig, with_optimizer: bool) -> AdapterState:
    """The adapter in `directory`; `UserError` if it is not one for this base model."""
    meta = _read_meta(directory)
    state = AdapterState(model_config, LoraConfig(**meta["lora"]))
    _fill(state.weights, state.layout, directory, meta)
    if with_optimizer:
        file = directory / "optimizer.safetensors"
        if not file.is_file():
            raise UserError(
                f"checkpoint {directory.name} holds no optimizer state; load its weights only, or a training checkpoint"
            )
        optimizer = load_file(file)
        state.moment1.copy_(optimizer["moment1"])
        state.moment2.copy_(optimizer["moment2"])
        state.set_gradient(optimizer.get("gradient"))
        state.steps = int(meta["steps"])
    return state


def read_weights(directory: Path, model_config: ModelConfig) -> tuple[LoraLayout, Tensor]:
    """The same without what training needs: the layout, and the flat vector."""
    meta = _read_meta(directory)
    layout = lora_layout(model_config, replace(LoraConfig(**meta["lora"]), seed=None))
    (weights,) = lasting.zeros(1, layout.size)
    _fill(weights, layout, directory, meta)
    return layout, weights


def _fill(weights: Tensor, layout: LoraLayout, directory: Path, meta: dict[str, Any]) -> None:
    tensors = load_file(directory / MODEL_FILE)
    for site, (a, b) in layout.site_views(weights).items():
        for side, view in (("A", a), ("B", b)):
            found = tensors.get(f"{PREFIX}{site}.lora_{side}.weight")
            if found is not None and found.ndim == view.ndim + 1 and len(found) == 1:
                found = found[0]  # shared by the experts
            if found is None or found.shape != view.shape:
                shape = "nothing" if found is None else list(found.shape)
                raise UserError(
                    f"checkpoint {directory.name} was made for {meta['base_model']}, another shape of model: "
                    f"{site}.lora_{side} should be {list(view.shape)}, found {shape}"
                )
            view.copy_(found)


def peft_tensors(image: AdapterImage) -> dict[str, Tensor]:
    """The matrices under the names that other tools know them by."""
    tensors: dict[str, Tensor] = {}
    for site, pair in image.layout.site_views(image.weights.cpu()).items():
        of_experts = any(matrix.ndim == 3 for matrix in pair)
        for side, matrix in zip("AB", pair, strict=True):
            shared = of_experts and matrix.ndim == 2
            tensors[f"{PREFIX}{site}.lora_{side}.weight"] = (matrix[None] if shared else matrix).contiguous()
    return tensors


def peft_config(image: AdapterImage, base_model: str) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": image.lora.rank,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
        "target_modules": sorted({site.rsplit(".", 1)[-1] for site in image.layout.site_names}),
    }


def _read_meta(directory: Path) -> dict[str, Any]:
    file = directory / "hone.json"
    if not file.is_file():
        raise UserError(f"checkpoint {directory.name} is missing or incomplete; it may have been deleted")
    meta: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if meta["format"] != FORMAT:
        raise UserError(f"checkpoint {directory.name} has format {meta['format']}; this version of Hone reads {FORMAT}")
    return meta


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
