"""Tokens drawn in C. The log-probabilities have the bits of the framework's log-softmax.

Legend: B rows, V vocabulary.
"""

import torch
from torch import Tensor

from hone.engine.native.library import library


def can_draw(logits_BV: Tensor) -> bool:
    return library() is not None and logits_BV.device.type == "cpu" and logits_BV.dtype == torch.float32


def draw_native(
    logits_BV: Tensor, temperature_B1: Tensor, greedy_B1: Tensor | None, uniforms_B: Tensor
) -> tuple[list[int], list[float]]:
    """A token for each row by inversion of its uniform number, float64, or the likeliest where `greedy_B1` is true; and
    its log-probability."""
    found = library()
    assert found is not None
    assert temperature_B1.dtype == torch.float32
    assert uniforms_B.dtype == torch.float64
    temperature_B1, uniforms_B = temperature_B1.contiguous(), uniforms_B.contiguous()
    rows, size = logits_BV.shape
    if logits_BV.stride(1) != 1:
        logits_BV = logits_BV.contiguous()
    tokens_B, logprobs_B = torch.empty(rows, dtype=torch.int64), torch.empty(rows)
    scratch = torch.empty(found.hone_draw_scratch(size))
    found.hone_draw(
        logits_BV.data_ptr(),
        logits_BV.stride(0),
        size,
        rows,
        temperature_B1.data_ptr(),
        None if greedy_B1 is None else greedy_B1.data_ptr(),
        uniforms_B.data_ptr(),
        scratch.data_ptr(),
        tokens_B.data_ptr(),
        logprobs_B.data_ptr(),
    )
    return tokens_B.tolist(), logprobs_B.tolist()
