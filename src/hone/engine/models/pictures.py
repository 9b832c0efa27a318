"""Images among the rows of a batch: which rows they take, and what stands there.

Legend: T rows, h hidden, n rows of one image.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hone.engine.models.vision import Vision
from hone.protocol.types import PlacedImage


@dataclass(frozen=True)
class Pictured:
    """A sequence with images: the rows `start:stop` of a batch are its positions from `first` on."""

    start: int
    stop: int
    first: int
    images: tuple[PlacedImage, ...]
    """All of the sequence, wherever they are."""

    def moved(self, by: int) -> "Pictured":
        return replace(self, start=self.start + by, stop=self.stop + by)


@dataclass(frozen=True)
class Sight:
    """What the model sees in the place of tokens."""

    rows_n: Tensor
    """Which rows, ascending."""
    features_nh: Tensor
    deeper: tuple[Tensor, ...]
    """What is added there after the first layers, one [n, h] for each."""


def sight(pictured: Sequence[Pictured], vision: Vision) -> Sight | None:
    """None where all images lie before the rows, as in decoding."""
    rows, features, deeper = [], [], []
    for sequence in pictured:
        for placed in sequence.images:
            low, high = max(placed.start, sequence.first), min(placed.stop, sequence.first + _length(sequence))
            if low >= high:
                continue
            seen, part = vision.see(placed.image), slice(low - placed.start, high - placed.start)
            rows.append(torch.arange(low, high) - sequence.first + sequence.start)
            features.append(seen.features_nh[part])
            deeper.append([layer[part] for layer in seen.deeper])
    if not rows:
        return None
    return Sight(torch.cat(rows), torch.cat(features), tuple(torch.cat(x) for x in zip(*deeper, strict=True)))


def rotary_positions(positions_T: Tensor, pictured: Sequence[Pictured], vision: Vision) -> Tensor:
    """Time, height and width for the rotary angles, [3, T]: M-RoPE (Qwen2-VL, Wang et al. 2024). Text counts up in all
    three. An image is one moment with rows and columns, and text goes on after the longer of its sides."""
    out_3T = positions_T.expand(3, -1).clone()
    for sequence in pictured:
        ahead, length = 0, _length(sequence)
        mine_3L = out_3T[:, sequence.start : sequence.stop]
        for placed in sequence.images:
            height, width = vision.grid(placed.image)
            offset = placed.start - sequence.first
            low, high = max(offset, 0), min(offset + placed.length, length)
            if low < high:
                place_n = torch.arange(low - offset, high - offset)
                grid_3n = torch.stack([torch.zeros_like(place_n), place_n // width, place_n % width])
                mine_3L[:, low:high] = placed.start + ahead + grid_3n
            ahead_after = ahead + max(height, width) - placed.length
            if high < length:
                mine_3L[:, max(high, 0) :] += ahead_after - ahead
            ahead = ahead_after
    return out_3T


def _length(sequence: Pictured) -> int:
    return sequence.stop - sequence.start
