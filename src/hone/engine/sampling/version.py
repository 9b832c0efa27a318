"""An immutable copy of an adapter's weights, prepared for sampling."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hone.engine.attention import SINGLE
from hone.engine.lora.layout import GroupWeights, LoraLayout


@dataclass(frozen=True)
class AdapterVersion:
    weights: dict[str, GroupWeights]
    scale: float

    @property
    def bytes(self) -> int:
        """Of the matrices."""
        return sum(x.nbytes for group in self.weights.values() for x in (group.a, *group.b))


def make_version(layout: LoraLayout, flat: Tensor) -> AdapterVersion:
    """Prepare `flat`, which the version keeps and nobody may change any more.

    A group's B matrices become one block-diagonal matrix over its stacked A's: one product instead of one per site,
    which is what decoding a few rows is bound by. Groups of experts stay as they are, and so do those of high rank:
    zeros do not change a sum, but a product breaks long sums into parts.
    """
    views = layout.views(flat)
    fused = {name: g if layout.groups[name].b_experts else _fuse(g) for name, g in views.items()}
    return AdapterVersion(fused, layout.scale)


def _fuse(group: GroupWeights) -> GroupWeights:
    if len(group.b) == 1 or group.a.shape[0] > SINGLE:
        return group
    return GroupWeights(group.a, (torch.block_diag(*group.b),))
