"""An immutable copy of an adapter's weights, prepared for sampling."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from hone.engine import lasting
from hone.engine.attention import SINGLE
from hone.engine.lora.batch import LoraSpan
from hone.engine.lora.layout import GroupWeights, LoraLayout


@dataclass(frozen=True)
class AdapterVersion:
    layout: LoraLayout
    flat: Tensor
    weights: dict[str, GroupWeights]
    """By group, as a CPU multiplies with them; a GPU gathers what it needs from `flat`."""

    @property
    def scale(self) -> float:
        return self.layout.scale

    @property
    def bytes(self) -> int:
        """Of the matrices."""
        matrices = [x for group in self.weights.values() for x in (group.a, *group.b)]
        return sum(x.nbytes for x in matrices or [self.flat])


def make_version(layout: LoraLayout, flat: Tensor) -> AdapterVersion:
    """Prepare `flat`, which the version keeps and nobody may change any more.

    A group's B matrices become one block-diagonal matrix over its stacked A's: one product instead of one per site,
    which is what decoding a few rows is bound by. Groups of experts stay as they are, and so do those of high rank:
    zeros do not change a sum, but a product breaks long sums into parts.
    """
    views = layout.views(flat)
    fused = {name: g if layout.groups[name].b_experts else _fuse(g) for name, g in views.items()}
    return AdapterVersion(layout, flat, fused)


def adapter_spans(versions: Sequence[AdapterVersion | None], starts: Sequence[int]) -> list[LoraSpan]:
    """Which rows are whose: part i is `starts[i]:starts[i + 1]`. Neighbouring parts of one adapter become one span;
    parts of the base model none."""
    spans: list[LoraSpan] = []
    for i, version in enumerate(versions):
        if version is None:
            continue
        start, stop = starts[i], starts[i + 1]
        if spans and spans[-1].weights is version.weights and spans[-1].stop == start:
            start = spans.pop().start
        spans.append(LoraSpan(start, stop, version.weights, None, version.scale))
    return spans


def _fuse(group: GroupWeights) -> GroupWeights:
    if len(group.b) == 1 or group.a.shape[0] > SINGLE:
        return group
    rows, columns = (sum(b.shape[axis] for b in group.b) for axis in (0, 1))
    whole = lasting.zeros(1, rows * columns, at_once=True)[0].view(rows, columns)
    row = column = 0
    for b in group.b:
        whole[row : row + b.shape[0], column : column + b.shape[1]] = b
        row, column = row + b.shape[0], column + b.shape[1]
    return GroupWeights(group.a, (whole,))
