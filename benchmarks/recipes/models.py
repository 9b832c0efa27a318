"""The embedded model under every id that a recipe names, as directories where the cookbook looks for tokenizers."""

import json
import shutil
from importlib import resources
from pathlib import Path

MODELS = (
    "Qwen/Qwen3-4B-Instruct-2507",
    "Qwen/Qwen3-8B",
    "Qwen/Qwen3.5-4B",
    "Qwen/Qwen3.5-9B",
    "Qwen/Qwen3.5-9B-Base",
    "Qwen/Qwen3.5-397B-A17B",
    "Qwen/Qwen3.6-27B",
    "Qwen/Qwen3.6-35B-A3B",
    "Qwen/Qwen3.6-35B-A3B:peft:262144",
    "Qwen/Qwen3.8-27B",
    "thinkingmachines/Inkling",  # the cookbook brings its tokenizer; what it sends is refused anyway
)

CONTEXT = 8192
"""Some recipes write longer prompts than the embedded model was trained on. What it answers to them does not matter."""

IMAGE_PROCESSOR = {
    "image_processor_type": "Qwen2VLImageProcessor",
    "patch_size": 16,
    "merge_size": 2,
    "temporal_patch_size": 2,
    "size": {"shortest_edge": 1024, "longest_edge": 65536},
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
}
"""The cookbook measures images before it sends them, whether or not the model can see."""


def write_models(root: Path) -> list[str]:
    """Write them below `root`; returns the values for `hone serve --model`."""
    model = root / "model"
    shutil.copytree(str(resources.files("hone") / "assets" / "tiny"), model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"max_position_embeddings": CONTEXT}))
    (model / "preprocessor_config.json").write_text(json.dumps(IMAGE_PROCESSOR))
    for name in MODELS:
        directory = root / name.split(":")[0]  # the cookbook drops the suffix before it looks for a tokenizer
        directory.parent.mkdir(parents=True, exist_ok=True)
        if not directory.exists():
            directory.symlink_to(model)
    return [f"{name}={model}" for name in MODELS]
