"""A random model of 1.3 M parameters in the shape of Qwen 3, which all systems can load."""

import shutil
from importlib import resources
from pathlib import Path

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from benchmarks.peers.work import VOCABULARY


def write_model(directory: Path) -> int:
    """A Hugging Face directory with a tokenizer, which nothing here uses but some want; returns the parameters."""
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=2048,
        tie_word_embeddings=False,  # SkyRL adapts no tied ones
        eos_token_id=None,  # nothing ends before it was asked to
        bos_token_id=None,
        pad_token_id=0,
        dtype="float32",
    )
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(config)
    model.save_pretrained(directory)
    tiny = Path(str(resources.files("hone") / "assets" / "tiny"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny / name, directory / name)
    return sum(p.numel() for p in model.parameters())
