"""Small models that see, and pictures for them."""

import functools
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

TURN_START, TURN_END, IMAGE, VIDEO, START, END = range(256, 262)
"""Beside the bytes, the tokens of Qwen's chat template and those that its models keep for pictures."""
VOCAB = 264

_TEXT: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
_ROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
_HEADS = {**_TEXT, "head_dim": 8, "rope_parameters": {**_ROPE, "mrope_interleaved": True}}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_DELTA = {
    "num_hidden_layers": 4,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "rope_parameters": {**_ROPE, "mrope_interleaved": True, "partial_rotary_factor": 1.0},
}
_EYE: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 32,
}
_GRID_EYE = {**_EYE, "num_position_embeddings": 16}
_DEEP_EYE = {**_GRID_EYE, "deepstack_visual_indexes": [0, 1]}
_WINDOW_EYE = {**_EYE, "window_size": 16, "fullatt_block_indexes": [1]}

SEEING: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "qwen3_vl": ("Qwen3VL", _HEADS, _DEEP_EYE),
    "qwen3_vl_moe": ("Qwen3VLMoe", {**_HEADS, **_EXPERTS}, _DEEP_EYE),
    "qwen2_5_vl": ("Qwen2_5_VL", {**_TEXT, "rope_parameters": _ROPE}, _WINDOW_EYE),
    "qwen3_5": ("Qwen3_5", {**_HEADS, **_DELTA}, _GRID_EYE),
}
"""By name: the family's class prefix in transformers, and the configurations of its text model and its tower."""


@functools.cache
def seeing_model(name: str) -> Any:
    """transformers' own model with random weights."""
    prefix, text, eye = SEEING[name]
    config = getattr(transformers, f"{prefix}Config")(
        text_config=text,
        vision_config=eye,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=START,
        vision_end_token_id=END,
        attn_implementation="eager",
    )
    torch.manual_seed(17)
    model = getattr(transformers, f"{prefix}ForConditionalGeneration")(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.08)
    return model.requires_grad_(False)


def image_processor() -> Any:
    """Pictures of 4 to 64 tokens, each of 8 x 8 pixels."""
    size = {"shortest_edge": 4 * 64, "longest_edge": 64 * 64}
    return transformers.Qwen2VLImageProcessorPil(size=size, patch_size=4, merge_size=2)


CHAT = """{% for message in messages %}<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content -%}
{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif -%}
{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def byte_tokenizer() -> Any:
    """A token for every byte, with Qwen's special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({character: i for i, character in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    named = ("im_start", "im_end", "image_pad", "video_pad", "vision_start", "vision_end")
    tokenizer.add_special_tokens([f"<|{name}|>" for name in named])
    assert tokenizer.token_to_id("<|vision_end|>") == END
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", chat_template=CHAT)


def save_seeing(name: str, directory: Path) -> Path:
    model = seeing_model(name)
    model.generation_config.eos_token_id = TURN_END
    model.save_pretrained(directory)
    image_processor().save_pretrained(directory)
    byte_tokenizer().save_pretrained(directory)
    return directory


def noise(seed: int, width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def coloured(seed: int, colour: tuple[int, int, int], size: int = 32) -> Image.Image:
    """One colour under noise."""
    pixels = np.random.default_rng(seed).normal(colour, 60, (size, size, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def file_of(picture: Image.Image, format: str = "png", **how: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **how)
    return file.getvalue()
