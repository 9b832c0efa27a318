"""Which adapter's matrices apply to which rows of a packed batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hone.engine.lora.layout import GroupWeights, LoraLayout
from hone.engine.lora.linear import Segment, project


@dataclass(frozen=True)
class Vectors:
    """The flat vectors that an adapter's matrices and gradients are views of."""

    layout: LoraLayout
    weights: Tensor
    gradient: Tensor | None


@dataclass(frozen=True)
class LoraSpan:
    """Rows `start:stop` belong to one adapter. A group that the adapter does not train is absent from `weights`."""

    start: int
    stop: int
    weights: Mapping[str, GroupWeights]
    gradients: Mapping[str, GroupWeights] | None
    scale: float
    vectors: Vectors | None = None
    """In training."""

    def part(self, start: int, stop: int) -> "LoraSpan":
        """Of the batch that consists of the rows `start:stop`."""
        return replace(self, start=max(self.start, start) - start, stop=min(self.stop, stop) - start)


class LoraBatch:
    """The spans of one pass, in row order; rows outside every span use the base model alone."""

    def __init__(self, spans: Sequence[LoraSpan]) -> None:
        self.spans = tuple(spans)
        self._segments: dict[str, list[Segment]] = {}

    def project(self, group: str, x_TI: Tensor, weight_OI: Tensor) -> Tensor:
        """x @ weight.T plus what the adapters add to this group of projections, [T, O]; differentiable in x."""
        return project(x_TI, weight_OI, self.segments(group))

    def part(self, start: int, stop: int) -> "LoraBatch":
        """The batch that consists of the rows `start:stop` of this one."""
        return LoraBatch([s.part(start, stop) for s in self.spans if s.start < stop and s.stop > start])

    def segments(self, group: str) -> list[Segment]:
        """Kept after the first call: a decoding batch asks again for every token."""
        found = self._segments.get(group)
        if found is None:
            found = self._segments[group] = [
                Segment(s.start, s.stop, s.weights[group], s.gradients[group] if s.gradients else None, s.scale)
                for s in self.spans
                if group in s.weights
            ]
        return found

    def expert_segments(self, group: str, expert: int, rows: Tensor) -> list[Segment]:
        """The segments of the batch that consists of the given rows (ascending) of this one, for one expert."""
        borders = torch.tensor([[s.start, s.stop] for s in self.spans], dtype=rows.dtype, device=rows.device).view(
            -1, 2
        )
        found = torch.searchsorted(rows, borders).tolist()
        return [
            Segment(
                start,
                stop,
                s.weights[group].expert(expert),
                s.gradients[group].expert(expert) if s.gradients else None,
                s.scale,
            )
            for s, (start, stop) in zip(self.spans, found, strict=True)
            if group in s.weights and stop > start
        ]
