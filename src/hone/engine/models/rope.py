"""Rotary position embeddings (Su et al. 2021), with the frequency scaling of Llama 3.1."""

import math

import torch
from torch import Tensor

from hone.engine.models.config import Llama3Rope, ModelConfig


def rope_tables(config: ModelConfig, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """cos and sin, each float32 [max_context, head_dim]; sin carries the sign of `rotate`'s two halves."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.int64, device=device).float() / config.head_dim
    frequencies = 1.0 / config.rope_theta**exponents
    if config.rope_scaling is not None:
        frequencies = _llama3(frequencies, config.rope_scaling)
    angles = torch.outer(torch.arange(config.max_context, device=device).float(), frequencies)
    sin = angles.sin()
    return torch.cat([angles.cos()] * 2, dim=-1), torch.cat([-sin, sin], dim=-1)


def rotate(x_THd: Tensor, cos_T1d: Tensor, sin_T1d: Tensor) -> Tensor:
    """Turn every head of `x` by its token's angles; the pairs are (i, i + d/2), as in the Hugging Face checkpoints."""
    swapped = x_THd.roll(x_THd.shape[-1] // 2, dims=-1)
    # the angles are float32, whatever the numbers are
    return torch.addcmul(x_THd * cos_T1d, swapped, sin_T1d).to(x_THd.dtype)


def _llama3(frequencies: Tensor, rope: Llama3Rope) -> Tensor:
    wavelengths = 2 * math.pi / frequencies
    longest, shortest = rope.original_context / rope.low_freq_factor, rope.original_context / rope.high_freq_factor
    blend = (rope.original_context / wavelengths - rope.low_freq_factor) / (
        rope.high_freq_factor - rope.low_freq_factor
    )
    blended = (1 - blend) * frequencies / rope.factor + blend * frequencies
    stretched = torch.where(wavelengths > longest, frequencies / rope.factor, frequencies)
    return torch.where((wavelengths <= longest) & (wavelengths >= shortest), blended, stretched)
