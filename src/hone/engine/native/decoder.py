"""A dense model's decoding step in C: no operation of the framework, no padding, every adapter where its rows are.

It serves models small enough that the framework's own work weighs more than reading the weights, of which it keeps a
copy; and only where it has the framework's bits, see `agreement.py`.

Legend: B rows of sequences, T rows of any kind, h hidden, N blocks per sequence, V vocabulary.
"""

import ctypes
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from hone.engine.attention import KeyValueCache
from hone.engine.lora.layout import GroupWeights
from hone.engine.models.config import ModelConfig
from hone.engine.models.decoder import Decoder
from hone.engine.models.hf import HfDecoder
from hone.engine.models.load import LoadedModel
from hone.engine.models.weights import DenseMlp, count_parameters
from hone.engine.native.library import MOST_SITES, Layer, Matrix, Model, Pair, Rows, Span, library
from hone.engine.native.matrices import CHAINS, PANEL, Packed, order_of, packed_base, scales_weight, whole_panels
from hone.engine.sampling.version import AdapterVersion, version_spans

MOST_BYTES = 256 * 2**20
"""Of a model's weights."""
MOST_HEAD = 192
"""Of a head; as in `attention.h`."""
KEPT_BYTES = 16 * 2**20
"""Of packed adapters that no rows use any more; they may start again soon."""
RECENT = 8
"""Times that rows are laid out, for which an adapter stays in any case: one after the other leaves a batch."""
GROUPS = ("qkv", "o", "gate_up", "down")


@dataclass
class PackedAdapter:
    matrices: list[Packed]
    pairs: ctypes.Array[Pair]
    rank: int
    """Of the largest stack."""
    bytes: int
    used: int = 0
    """When rows were laid out with it last."""
    end: Callable[[], object] | None = None
    """Forgets it; called when the version goes."""


class NativeDecoder:
    """The packed weights of one model, over one cache."""

    @classmethod
    def of(cls, model: LoadedModel, cache: KeyValueCache) -> "NativeDecoder | None":
        """None where the C cannot serve it."""
        return cls(model, cache) if library() is not None and serves(model.config, model.decoder) else None

    def __init__(self, model: LoadedModel, cache: KeyValueCache) -> None:
        assert isinstance(model.decoder, Decoder)
        config, weights = model.config, model.decoder.weights
        shapes = _shapes(config)
        self.largest = max((shapes[group] for group in GROUPS), key=prod)
        """Outputs and inputs of a layer's largest product."""
        self._names = [f"model.layers.{i}.{g}" for i in range(config.layers) for g in GROUPS] + ["head"]
        self._adapters: dict[int, PackedAdapter] = {}
        """By the identity of the version, the one used last at the end; gone when the version is."""
        self._layouts = 0
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
        self._packed.append(packed_base(weight))
        return self._packed[-1].matrix

    def serves(self, versions: Sequence[AdapterVersion | None]) -> bool:
        """Whether it can multiply with all of these."""
        groups = [group for version in versions if version is not None for group in version.views.values()]
        return all(map(_multiplies, groups))

    def step(self, versions: Sequence[AdapterVersion | None], inputs_3B: Tensor, blocks_BN: Tensor) -> "NativeStep":
        """For B rows, of a version each. `inputs_3B` (tokens, positions, slots) and `blocks_BN`, both int64, are read
        in every step, where they lie."""
        return NativeStep(self._pass(versions, inputs_3B, blocks_BN), self._model.vocabulary)

    def hidden(self, versions: Sequence[AdapterVersion | None], inputs_3T: Tensor, blocks_TN: Tensor) -> Tensor:
        """What the head reads after each of T rows, [T, h]; as in `step`. Rows of one sequence stand in its order and
        see each other."""
        hidden_Th = torch.empty(inputs_3T.shape[1], whole_panels(self._model.hidden))
        self._pass(versions, inputs_3T, blocks_TN).hidden(hidden_Th)
        return hidden_Th[:, : self._model.hidden].contiguous()

    def _pass(self, versions: Sequence[AdapterVersion | None], inputs_3T: Tensor, blocks_TN: Tensor) -> "NativePass":
        return NativePass(self, self._model, self._spans(versions), inputs_3T, blocks_TN)

    def _spans(self, versions: Sequence[AdapterVersion | None]) -> list[tuple[int, int, PackedAdapter]]:
        """Which rows are whose."""
        self._layouts += 1
        spans = []
        for start, stop, version in version_spans(versions, range(len(versions) + 1)):
            spans.append((start, stop, self._adapter(version)))
        self._forget()
        return spans

    def _adapter(self, version: AdapterVersion) -> PackedAdapter:
        key = id(version)
        found = self._adapters.pop(key, None)
        if found is None:
            found = self._packed_adapter(version)
            found.end = weakref.finalize(version, self._adapters.pop, key, None)
        self._adapters[key] = found
        found.used = self._layouts
        return found

    def _forget(self) -> None:
        """The oldest, while there are too many. Versions may go at any time, and theirs with them."""
        adapters = list(self._adapters.items())
        kept = sum(adapter.bytes for _, adapter in adapters)
        for _, adapter in adapters:
            if kept <= KEPT_BYTES or adapter.used > self._layouts - RECENT:
                return
            kept -= adapter.bytes
            if adapter.end is not None:
                adapter.end()

    def _packed_adapter(self, version: AdapterVersion) -> PackedAdapter:
        pairs = (Pair * len(self._names))()
        matrices = []
        for i, name in enumerate(self._names):
            if (group := version.views.get(name)) is not None:
                order = order_of(*group.a.shape)
                assert order is not None
                a, bs = Packed(group.a, order), [Packed(b, CHAINS, version.scale) for b in group.b]
                matrices += [a, *bs]
                pairs[i] = Pair(len(bs), a.matrix, (Matrix * MOST_SITES)(*(b.matrix for b in bs)))
        rank = max((pair.a.outputs for pair in pairs), default=0)
        return PackedAdapter(matrices, pairs, rank, sum(m.bytes for m in matrices))


class NativePass:
    """Rows that stay the same, and what computing them takes."""

    def __init__(
        self,
        decoder: NativeDecoder,
        model: Model,
        spans: Sequence[tuple[int, int, PackedAdapter]],
        inputs_3T: Tensor,
        blocks_TN: Tensor,
    ) -> None:
        found = library()
        assert found is not None
        self.count = inputs_3T.shape[1]
        tokens, positions, slots = (row.data_ptr() for row in inputs_3T)
        each = (Span * len(spans))(*(Span(start, stop, adapter.pairs) for start, stop, adapter in spans))
        rows = Rows(self.count, len(spans), tokens, positions, slots, blocks_TN.data_ptr(), blocks_TN.stride(0), each)
        rank = max((adapter.rank for _, _, adapter in spans), default=0)
        scratch = torch.empty(found.hone_scratch(model, self.count, rank))
        self._held = (decoder, spans, inputs_3T, blocks_TN, scratch)
        self._arguments = (ctypes.byref(model), ctypes.byref(rows), scratch.data_ptr())
        self._library = found

    def step(self, logits: Tensor) -> None:
        self._library.hone_step(*self._arguments, logits.data_ptr())

    def hidden(self, hidden: Tensor) -> None:
        self._library.hone_hidden(*self._arguments, hidden.data_ptr())


class NativeStep:
    """The step of rows that stay the same."""

    def __init__(self, rows: NativePass, vocabulary: int) -> None:
        self._rows, self._vocabulary = rows, vocabulary
        self._logits = torch.empty(rows.count, whole_panels(vocabulary))

    def __call__(self) -> Tensor:
        """[B, V], until the next call."""
        self._rows.step(self._logits)
        return self._logits[:, : self._vocabulary]


def serves(config: ModelConfig, decoder: Decoder | HfDecoder) -> bool:
    """Whether the C can read this model."""
    if not isinstance(decoder, Decoder) or config.experts:
        return False
    if count_parameters(config, decoder.weights) * torch.float32.itemsize > MOST_BYTES:
        return False
    if decoder.backend.device.type != "cpu" or config.head_dim % PANEL or config.head_dim > MOST_HEAD:
        return False
    # C believes the configuration; a checkpoint with other shapes is the framework's to refuse
    shapes = _shapes(config)
    plain = all(w.shape == shapes[n] and w.dtype == torch.float32 and w.is_contiguous() for n, w in _weights(decoder))
    return plain and all(order_of(*shapes[name]) is not None for name in (*GROUPS, "head"))


def _shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    h, d, M = config.hidden_size, config.head_dim, config.intermediate_size
    return {
        "embedding": (config.vocab_size, h),
        "norm": (h,),
        "qk": (config.heads + config.kv_heads, d),
        "qkv": ((config.heads + 2 * config.kv_heads) * d, h),
        "o": (h, config.heads * d),
        "gate_up": (2 * M, h),
        "down": (h, M),
        "head": (config.vocab_size, h),
    }


def _weights(decoder: Decoder) -> Iterator[tuple[str, Tensor]]:
    weights = decoder.weights
    yield from (("embedding", weights.embedding), ("head", weights.head), ("norm", weights.final_norm))
    for layer in weights.layers:
        assert isinstance(layer.mlp, DenseMlp)
        yield from (("norm", layer.attention_norm), ("norm", layer.mlp_norm), ("qkv", layer.qkv), ("o", layer.o))
        yield from (("gate_up", layer.mlp.gate_up), ("down", layer.mlp.down))
        if layer.qk_norm is not None:
            yield "qk", layer.qk_norm


def _multiplies(group: GroupWeights) -> bool:
    return order_of(*group.a.shape) is not None and all(scales_weight(*b.shape) for b in group.b)
