"""A dense model's decoding step in C: no operation of the framework, no padding, every adapter where its rows are.

It serves models small enough that the framework's own work weighs more than reading the weights, of which it keeps a
copy; and only where it has the framework's bits, see `agreement.py`.

Legend: B rows, N blocks per sequence, V vocabulary.
"""

import ctypes
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hone.engine.attention import KeyValueCache
from hone.engine.lora.batch import LoraSpan
from hone.engine.lora.layout import GroupWeights
from hone.engine.models.decoder import Decoder
from hone.engine.models.load import LoadedModel
from hone.engine.models.weights import DenseMlp
from hone.engine.native.library import Layer, Matrix, Model, Pair, Rows, Span, library
from hone.engine.native.matrices import CHAINS, PANEL, Packed, order_of, scales_weight

MOST_BYTES = 256 * 2**20
"""Of a model's weights."""
KEPT_ADAPTERS = 64
GROUPS = ("qkv", "o", "gate_up", "down")


@dataclass(frozen=True)
class PackedAdapter:
    weights: Mapping[str, GroupWeights]
    """What was packed; held so that its identity stays its own."""
    matrices: list[Packed]
    pairs: ctypes.Array[Pair]
    rank: int
    """Of the largest stack."""


class NativeDecoder:
    """The packed weights of one model, over one cache."""

    @classmethod
    def of(cls, model: LoadedModel, cache: KeyValueCache) -> "NativeDecoder | None":
        """None where the C cannot serve it."""
        return cls(model, cache) if library() is not None and _serves(model) else None

    def __init__(self, model: LoadedModel, cache: KeyValueCache) -> None:
        assert isinstance(model.decoder, Decoder)
        config, weights = model.config, model.decoder.weights
        self._names = [f"model.layers.{i}.{g}" for i in range(config.layers) for g in GROUPS] + ["head"]
        self._adapters: OrderedDict[int, PackedAdapter] = OrderedDict()
        self._held = [model, cache, weights, model.decoder.rope]
        self._packed: list[Packed] = []
        layers = (Layer * config.layers)()
        for i, (layer, entries) in enumerate(zip(weights.layers, cache.entries, strict=True)):
            assert isinstance(layer.mlp, DenseMlp)
            layers[i] = Layer(
                layer.attention_norm.data_ptr(),
                None if layer.qk_norm is None else layer.qk_norm.data_ptr(),
                layer.mlp_norm.data_ptr(),
                *(self._pack(w) for w in (layer.qkv, layer.o, layer.mlp.gate_up, layer.mlp.down)),
                entries.data_ptr(),
            )
        cos, sin = model.decoder.rope
        self._model = Model(
            config.hidden_size,
            config.heads,
            config.kv_heads,
            config.head_dim,
            config.intermediate_size,
            config.vocab_size,
            config.layers,
            config.hidden_size * config.rms_norm_eps,
            config.head_dim * config.rms_norm_eps,
            config.head_dim**-0.5,
            weights.embedding.data_ptr(),
            cos.data_ptr(),
            sin.data_ptr(),
            weights.final_norm.data_ptr(),
            layers,
            self._pack(weights.head),
        )

    def _pack(self, weight: Tensor) -> Matrix:
        order = order_of(*weight.shape)
        assert order is not None
        self._packed.append(Packed(weight, order))
        return self._packed[-1].matrix

    def serves(self, spans: Sequence[LoraSpan]) -> bool:
        """Whether it can multiply with all of these adapters."""
        return all(_multiplies(group) for span in spans for group in span.weights.values())

    def step(self, spans: Sequence[LoraSpan], inputs_3B: Tensor, blocks_BN: Tensor) -> "NativeStep":
        """For B rows, of which each span is some. `inputs_3B` (tokens, positions, slots) and `blocks_BN`, both int64,
        are read in every step, where they lie."""
        adapters = [self._adapter(span) for span in spans]
        return NativeStep(self._model, spans, adapters, inputs_3B, blocks_BN)

    def _adapter(self, span: LoraSpan) -> PackedAdapter:
        key = id(span.weights)
        found = self._adapters.get(key)
        if found is None:
            found = self._adapters[key] = self._packed_adapter(span.weights, span.scale)
            if len(self._adapters) > KEPT_ADAPTERS:
                self._adapters.popitem(last=False)
        self._adapters.move_to_end(key)
        return found

    def _packed_adapter(self, weights: Mapping[str, GroupWeights], scale: float) -> PackedAdapter:
        pairs = (Pair * len(self._names))()
        matrices = []
        for i, name in enumerate(self._names):
            if (group := weights.get(name)) is not None:
                order = order_of(*group.a.shape)
                assert order is not None
                a, b = Packed(group.a, order), Packed(group.b[0], CHAINS, scale)
                matrices += [a, b]
                pairs[i] = Pair(a.matrix, b.matrix)
        return PackedAdapter(weights, matrices, pairs, max((len(g.a) for g in weights.values()), default=0))


class NativeStep:
    """The step of rows that stay the same."""

    def __init__(
        self,
        model: Model,
        spans: Sequence[LoraSpan],
        adapters: Sequence[PackedAdapter],
        inputs_3B: Tensor,
        blocks_BN: Tensor,
    ) -> None:
        found = library()
        assert found is not None
        count = inputs_3B.shape[1]
        tokens, positions, slots = (row.data_ptr() for row in inputs_3B)
        found_spans = [Span(s.start, s.stop, a.pairs) for s, a in zip(spans, adapters, strict=True)]
        each = (Span * len(spans))(*found_spans)
        rows = Rows(count, len(spans), tokens, positions, slots, blocks_BN.data_ptr(), blocks_BN.stride(0), each)
        scratch = torch.empty(found.hone_step_scratch(model, count, max((a.rank for a in adapters), default=0)))
        logits = torch.empty(count, -(-model.vocabulary // PANEL) * PANEL)
        self._held = (adapters, inputs_3B, blocks_BN, scratch)
        self._run = found.hone_step
        self._arguments = (ctypes.byref(model), ctypes.byref(rows), scratch.data_ptr(), logits.data_ptr())
        self._logits = logits[:, : model.vocabulary]

    def __call__(self) -> Tensor:
        """[B, V], until the next call."""
        self._run(*self._arguments)
        return self._logits


def _serves(model: LoadedModel) -> bool:
    config = model.config
    if not isinstance(model.decoder, Decoder) or config.experts or model.weight_bytes > MOST_BYTES:
        return False
    if model.decoder.backend.device.type != "cpu" or config.head_dim % PANEL or config.head_dim > 256:
        return False
    return all(order_of(*w.shape) is not None for w in _weights(model.decoder))


def _weights(decoder: Decoder) -> list[Tensor]:
    found = [decoder.weights.head]
    for layer in decoder.weights.layers:
        assert isinstance(layer.mlp, DenseMlp)
        found += [layer.qkv, layer.o, layer.mlp.gate_up, layer.mlp.down]
    return found


def _multiplies(group: GroupWeights) -> bool:
    return len(group.b) == 1 and order_of(*group.a.shape) is not None and scales_weight(*group.b[0].shape)
