"""Rotary embeddings against transformers and against rotation in the complex plane."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from hone.engine.models.load import LoadedModel
from hone.engine.models.rope import rope_tables, rotate
from tests.unit.engine.material import reference_model


@pytest.mark.parametrize("family", ["llama", "llama_rope"])
def test_queries_turn_as_in_transformers(family: str, models: dict[str, LoadedModel]) -> None:
    config = models[family].config
    positions = torch.tensor([0, 1, 5, 63, 64, 65, 129, 255])
    q = torch.randn(len(positions), config.heads, config.head_dim)
    reference_config: Any = reference_model(family).config
    cos, sin = LlamaRotaryEmbedding(reference_config)(q, positions[None])
    wanted, _ = apply_rotary_pos_emb(q[None].transpose(1, 2), q[None].transpose(1, 2), cos, sin)
    our_cos, our_sin = rope_tables(config)
    found = rotate(q, our_cos[positions, None], our_sin[positions, None])
    torch.testing.assert_close(found, wanted[0].transpose(0, 1), rtol=0, atol=1e-6)


def test_a_pair_is_a_number_in_the_complex_plane(models: dict[str, LoadedModel]) -> None:
    config = models["llama"].config
    half = config.head_dim // 2
    x = torch.randn(1, 1, config.head_dim)
    cos, sin = rope_tables(config)
    turned = rotate(x, cos[9], sin[9])[0, 0].numpy().astype(np.float64)
    for i in range(half):
        angle = 9 / config.rope_theta ** (2 * i / config.head_dim)
        wanted = complex(x[0, 0, i], x[0, 0, i + half]) * complex(math.cos(angle), math.sin(angle))
        assert abs(complex(turned[i], turned[i + half]) - wanted) < 1e-5
