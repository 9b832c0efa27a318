"""An immutable copy of an adapter's weights, for sampling."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from hone.engine import lasting
from hone.engine.attention import SINGLE
from hone.engine.lora.batch import LoraSpan
from hone.engine.lora.layout import GroupWeights, LoraLayout


@dataclass(frozen=True)
class AdapterVersion:
    """Keeps `flat`, which nobody may change any more. What multiplies with it prepares it in its own way when it is
    first sampled from: so publishing is one copy."""

    layout: LoraLayout
    flat: Tensor

    @property
    def scale(self) -> float:
        return self.layout.scale

    @cached_property
    def views(self) -> Mapping[str, GroupWeights]:
        """The weights by group."""
        return self.layout.views(self.flat)

    @cached_property
    def fused(self) -> Mapping[str, GroupWeights]:
        """The same for the framework's products on a CPU.

        A group's B matrices become one block-diagonal matrix over its stacked A's: one product instead of one per site,
        which is what decoding a few rows is bound by. Groups of experts stay as they are, and so do those of high rank:
        zeros do not change a sum, but a product breaks long sums into parts.
        """
        groups = self.layout.groups
        return {name: g if groups[name].b_experts else _fuse(g) for name, g in self.views.items()}


def version_spans(
    versions: Sequence[AdapterVersion | None], starts: Sequence[int]
) -> list[tuple[int, int, AdapterVersion]]:
    """Which rows are whose: part i is `starts[i]:starts[i + 1]`. Neighbouring parts of one adapter become one span;
    parts of the base model none."""
    spans: list[tuple[int, int, AdapterVersion]] = []
    for i, version in enumerate(versions):
        if version is None:
            continue
        start, stop = starts[i], starts[i + 1]
        if spans and spans[-1][2] is version and spans[-1][1] == start:
            start = spans.pop()[0]
        spans.append((start, stop, version))
    return spans


def adapter_spans(versions: Sequence[AdapterVersion | None], starts: Sequence[int]) -> list[LoraSpan]:
    """The same for the framework."""
    return [
        LoraSpan(start, stop, version.fused, None, version.scale)
        for start, stop, version in version_spans(versions, starts)
    ]


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
