"""A CPU, in float32: adapters compute from their flat vectors, and no result depends on who else is served."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hone.engine.attention import Attend, Continuation, KeyValueCache, PackedAttention, PrefillAttention
from hone.engine.backends.backend import Part, Rows, SamplingPasses
from hone.engine.lora.batch import LoraBatch, LoraSpan, Vectors
from hone.engine.lora.layout import LoraLayout
from hone.engine.models.norm import rms_norm
from hone.engine.sampling.version import AdapterVersion, adapter_spans

if TYPE_CHECKING:
    from hone.engine.models.decoder import Decoder
    from hone.engine.models.load import LoadedModel
    from hone.engine.native.layers import NativeLayers
    from hone.engine.sampling.prefill import Chunk
    from hone.engine.sampling.request import RunningSequence


class CpuBackend:
    device, dtype = torch.device("cpu"), torch.float32
    head_room = 1
    limits: Mapping[str, int] = {}
    memory_bytes = None

    def rms_norm(self, x: Tensor, folded: Tensor, eps: float) -> Tensor:
        return rms_norm(x, folded, eps)

    def packed(self, lengths: Sequence[int]) -> Attend:
        return PackedAttention(lengths)

    def cache(self, layers: int, blocks: int, kv_heads: int, head_dim: int) -> KeyValueCache:
        return KeyValueCache(layers, blocks, kv_heads, head_dim)

    def prefill(
        self, lengths: Sequence[int], cache: KeyValueCache, slots_T: Tensor, continued: Sequence[Continuation]
    ) -> Attend:
        return PrefillAttention(lengths, cache, slots_T, continued)

    def training_lora(self, parts: Sequence[Part], backward: bool) -> LoraBatch:
        spans = []
        for start, stop, a in parts:
            gradients = a.gradient_views() if backward else None
            vectors = Vectors(a.layout, a.weights, a.gradient if backward else None)
            spans.append(LoraSpan(start, stop, a.weight_views, gradients, a.layout.scale, vectors))
        return LoraBatch(spans)

    def sampling_lora(self, versions: Sequence[AdapterVersion | None], starts: Sequence[int]) -> LoraBatch:
        return LoraBatch(adapter_spans(versions, starts))

    def version(self, layout: LoraLayout, flat: Tensor) -> AdapterVersion:
        return AdapterVersion(layout, flat)

    def layers(self, decoder: "Decoder") -> "NativeLayers | None":
        from hone.engine.native.agreement import trusted_layers  # which knows decoders, and they their backend

        return trusted_layers(decoder)

    def sampling(self, model: "LoadedModel", cache: KeyValueCache, max_rows: int) -> SamplingPasses:
        # which know decoders, and they their backend
        from hone.engine.native.agreement import trusted_decoder
        from hone.engine.sampling.native_chunks import run_native_chunks
        from hone.engine.sampling.native_rows import NativeRows
        from hone.engine.sampling.prefill import run_chunks
        from hone.engine.sampling.rows import RunningRows

        native = trusted_decoder(model, cache)

        def run(chunks: "Sequence[Chunk]") -> "list[tuple[Chunk, Tensor]]":
            computed = run_native_chunks(native, chunks) if native is not None else None
            return computed or run_chunks(model, cache, chunks)

        def lay_out(sequences: "Sequence[RunningSequence]") -> Rows:
            rows = NativeRows.of(native, sequences) if native is not None else None
            return rows or RunningRows(model, cache, sequences)

        return SamplingPasses(run, lay_out)


CPU = CpuBackend()
