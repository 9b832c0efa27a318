"""The dense layers of a training pass in C, forward and backward; see `layer.c`.

The forward pass has the framework's bits, as the decoding step has (`decoder.py`), and is served where that is so; the
backward pass has sums of its own. A layer goes through in one call without Python between its operations, or, for one
long sequence that has the help of other threads (`wide.py`), in stages that these divide.

Legend: T rows, h hidden, d head size.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from hone.engine import wide
from hone.engine.attention import PackedAttention
from hone.engine.lora.batch import LoraBatch, LoraSpan
from hone.engine.lora.layout import LoraLayout
from hone.engine.models.config import ModelConfig
from hone.engine.models.weights import DenseMlp, LayerWeights, ModelWeights
from hone.engine.native.head import NativeHead
from hone.engine.native.library import (
    MOST_SITES,
    Batch,
    FrozenLayer,
    LayerPass,
    Part,
    Place,
    Projection,
    Shape,
    Sizes,
    library,
)
from hone.engine.native.matrices import order_of, packed_base, scales_weight

GROUPS = ("qkv", "o", "gate_up", "down")
STEP = 64
"""Rows that stay together; as `TOGETHER` in `training.h`."""

MARGIN = 0.15
"""Of what a layer keeps, that a backward pass takes for its adapters' matrices and its attention's scores."""

FORWARD, PACK, BEFORE, ATTEND, AFTER, BACKWARD, PACK_BACK, AFTER_BACK, ATTEND_BACK, BEFORE_BACK, GRADIENTS = range(11)
"""The stages, as in `layer.c`."""


class NativeLayers:
    """The packed layers of one model."""

    def __init__(self, config: ModelConfig, weights: ModelWeights) -> None:
        found = library()
        assert found is not None
        self._library, self._config, self._weights = found, config, weights
        self.shape = Shape(
            config.hidden_size,
            config.heads,
            config.kv_heads,
            config.head_dim,
            config.intermediate_size,
            config.qk_norm,
            config.hidden_size * config.rms_norm_eps,
            config.head_dim * config.rms_norm_eps,
            config.head_dim**-0.5,
        )
        self._packed = [packed_base(weight) for layer in weights.layers for weight in _matrices(layer)]
        self._head = packed_base(weights.head)
        self.layers = (FrozenLayer * config.layers)(*(_frozen(i, layer) for i, layer in enumerate(weights.layers)))
        self._places: WeakKeyDictionary[LoraLayout, ctypes.Array[Place] | None] = WeakKeyDictionary()

    @property
    def bytes(self) -> int:
        """Of the packed copy."""
        return sum(packed.bytes for packed in [*self._packed, self._head])

    @property
    def at_work(self) -> float:
        """What a layer's backward pass takes, as a part of what the layer keeps: that itself, what it works with, its
        output and input with their gradients; and a little for adapters and attention."""
        starts, sizes = (ctypes.c_int * 2)(0, STEP), Sizes()
        batch = Batch(STEP, 1, 0, ctypes.addressof(starts))
        self._library.hone_layer_sizes(self.shape, batch, sizes)
        rows = 4 * STEP * self._config.hidden_size
        return float(1 + (sizes.work + rows) / sizes.saved + MARGIN)

    def serves(self, layout: LoraLayout) -> bool:
        """Whether it can multiply with an adapter of this kind."""
        return self._places_of(layout) is not None

    def begin(self, attend: PackedAttention, lora: LoraBatch, cos_T1d: Tensor, sin_T1d: Tensor) -> TrainingPass | None:
        """A pass over sequences that attend to themselves; None if there is an adapter that it does not serve."""
        parts = [self._part(span) for span in lora.spans if span.stop > span.start]
        found = [part for part in parts if part is not None]
        return TrainingPass(self, attend.lengths, found, lora, cos_T1d, sin_T1d) if len(found) == len(parts) else None

    def head(self, lora: LoraBatch) -> NativeHead | None:
        """The head of rows that one adapter has; None if it does not serve that one."""
        return NativeHead.of(self._weights.head, next(iter(lora.segments("head")), None))

    def _part(self, span: LoraSpan) -> Part | None:
        if span.vectors is None or (places := self._places_of(span.vectors.layout)) is None:
            return None
        layout, gradient = span.vectors.layout, span.vectors.gradient
        gathered = None if gradient is None else gradient.data_ptr()
        return Part(span.start, span.stop, layout.rank, span.scale, span.vectors.weights.data_ptr(), gathered, places)

    def _places_of(self, layout: LoraLayout) -> ctypes.Array[Place] | None:
        if layout not in self._places:
            places = [_place(layout, f"model.layers.{i}.{g}") for i in range(self._config.layers) for g in GROUPS]
            found = [place for place in places if place is not None]
            self._places[layout] = (Place * len(found))(*found) if len(found) == len(places) else None
        return self._places[layout]


class TrainingPass:
    """Packed rows with their sequences and adapters, which every layer is run over."""

    def __init__(
        self,
        layers: NativeLayers,
        lengths: Sequence[int],
        parts: Sequence[Part],
        lora: LoraBatch,
        cos_T1d: Tensor,
        sin_T1d: Tensor,
    ) -> None:
        found = library()
        assert found is not None
        self._library, self._layers = found, layers
        starts = (ctypes.c_int * (len(lengths) + 1))(0, *accumulate(lengths))
        cos_Td, sin_Td = cos_T1d.contiguous(), sin_T1d.contiguous()
        self._held = (starts, cos_Td, sin_Td, lora)
        self._batch = Batch(
            len(cos_Td),
            len(lengths),
            len(parts),
            ctypes.addressof(starts),
            cos_Td.data_ptr(),
            sin_Td.data_ptr(),
            (Part * len(parts))(*parts),
        )
        self.sizes = Sizes()
        found.hone_layer_sizes(layers.shape, self._batch, self.sizes)
        shape = layers.shape
        self._widest = shape.hidden * 2 * shape.intermediate
        """Multiplications for a row, in a layer's largest product."""
        mixed = shape.heads * shape.head_dim
        self._attention = sum(length * length for length in lengths) * mixed // 2
        self._heads = len(lengths) * shape.kv_heads
        self._gathered = sum((part.stop - part.start) * part.rank for part in parts) * (mixed + 3 * shape.intermediate)

    def __call__(self, i: int, x_Th: Tensor) -> Tensor:
        """Layer `i`, differentiable down to its adapters and, but for the first, in x."""
        out: Tensor = _Layer.apply(x_Th, self, i)  # type: ignore[no-untyped-call]
        return out

    def forward(self, i: int, x_Th: Tensor) -> tuple[Tensor, Tensor]:
        """The output, and what the backward pass wants to have back."""
        out_Th, saved, packed = torch.empty_like(x_Th), torch.empty(self.sizes.saved), torch.empty(self.sizes.packed)
        layer = self._layer(i, x=x_Th, out=out_Th, saved=saved, packed=packed)
        if not self._divided:
            self._run(layer, FORWARD, 0, 0)
            return out_Th, saved
        rows = self._batch.rows
        self._run(layer, PACK, 0, 0)
        wide.share(rows * self._widest // 2, rows, STEP, partial(self._run, layer, BEFORE))
        wide.share(self._attention, self._heads, 1, partial(self._run, layer, ATTEND))
        wide.share(rows * self._widest, rows, STEP, partial(self._run, layer, AFTER))
        return out_Th, saved

    def backward(self, i: int, x_Th: Tensor, saved: Tensor, dout_Th: Tensor) -> Tensor | None:
        """d loss / d x, but for the first layer; the adapters' gradients are added to theirs."""
        dx_Th = torch.empty_like(x_Th) if i else None
        work, packed = torch.empty(self.sizes.work), torch.empty(self.sizes.packed)
        layer = self._layer(i, x=x_Th, dout=dout_Th, dx=dx_Th, saved=saved, packed=packed, work=work)
        if not self._divided:
            self._run(layer, BACKWARD, 0, 0)
            return dx_Th
        rows = self._batch.rows
        self._run(layer, PACK_BACK, 0, 0)
        wide.share(rows * self._widest, rows, STEP, partial(self._run, layer, AFTER_BACK))
        wide.share(2 * self._attention, self._heads, 1, partial(self._run, layer, ATTEND_BACK))
        wide.share(rows * self._widest // 2, rows, STEP, partial(self._run, layer, BEFORE_BACK))
        wide.alternate(self._gathered, partial(self._run, layer, GRADIENTS))
        return dx_Th

    @property
    def _divided(self) -> bool:
        return wide.parts_of(self._batch.rows * self._widest) > 1

    def _layer(self, i: int, **tensors: Tensor | None) -> LayerPass:
        addresses = {name: x.data_ptr() for name, x in tensors.items() if x is not None}
        layer, shape = self._layers.layers[i], self._layers.shape
        return LayerPass(ctypes.pointer(shape), ctypes.pointer(layer), ctypes.pointer(self._batch), **addresses)

    def _run(self, layer: LayerPass, stage: int, first: int, last: int) -> None:
        scratch = torch.empty(self.sizes.scratch)
        self._library.hone_layer(layer, stage, first, last, scratch.data_ptr())


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_Th: Tensor, rows: TrainingPass, i: int) -> Tensor:
        out_Th, saved = rows.forward(i, x_Th)
        ctx.save_for_backward(x_Th, saved)
        ctx.rows, ctx.index = rows, i
        return out_Th

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None]:
        rows, ctx.rows = ctx.rows, None
        assert rows is not None, "a backward pass writes over what it reads, so there is no second one"
        x_Th, saved = ctx.saved_tensors
        return rows.backward(ctx.index, x_Th, saved, grads[0].contiguous()), None, None


def _matrices(layer: LayerWeights) -> tuple[Tensor, ...]:
    """In the order of the groups."""
    assert isinstance(layer.mlp, DenseMlp)
    return layer.qkv, layer.o, layer.mlp.gate_up, layer.mlp.down


def _frozen(i: int, layer: LayerWeights) -> FrozenLayer:
    projections = (Projection * 4)(*(Projection(packed_base(w).matrix, w.data_ptr()) for w in _matrices(layer)))
    qk_norm = None if layer.qk_norm is None else layer.qk_norm.data_ptr()
    return FrozenLayer(i, layer.attention_norm.data_ptr(), qk_norm, layer.mlp_norm.data_ptr(), projections)


def _place(layout: LoraLayout, name: str) -> Place | None:
    """None if the order of the group's products is not known."""
    group = layout.groups.get(name)
    if group is None:
        return Place()
    order = order_of(len(group.sites) * layout.rank, group.inputs)
    if order is None or not all(scales_weight(site.outputs, layout.rank) for site in group.sites):
        return None
    a, b = layout.offsets(name)
    return Place(len(group.sites), order, a, (ctypes.c_int64 * MOST_SITES)(*b))
