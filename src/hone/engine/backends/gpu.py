"""A GPU: the base model in bfloat16 or float32, adapters side by side in a bank, decoding from recorded steps.

The same code runs on a CPU, for tests and for bfloat16: every kernel has a general operation in its place.

Two modes. The fast one takes the framework's products and attention, whose order of additions depends on the batch. The
invariant one computes every forward pass, training and sampling, by our own kernels with tiles of fixed size: a token
gets the same bits whoever is beside it, and the sampler's log-probabilities are the trainer's.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hone.engine.attention import Attend, Continuation, KeyValueCache
from hone.engine.backends.attention import PackedRows, PrefillPages
from hone.engine.backends.backend import Part, SamplingPasses
from hone.engine.backends.bank import BankedLora, Tenant
from hone.engine.backends.graphs import CudaGraphs, Record, call_again
from hone.engine.backends.grouped import has_kernel
from hone.engine.backends.kernels import kernels_serve
from hone.engine.backends.products import FastProducts, InvariantProducts, Products
from hone.engine.lora.layout import LoraLayout
from hone.engine.models.norm import rms_norm
from hone.engine.sampling.version import AdapterVersion

if TYPE_CHECKING:
    from hone.engine.models.decoder import Decoder
    from hone.engine.models.load import LoadedModel


PART_OF_DEVICE = 0.9
"""The rest is for the driver, workspaces, and memory in pieces that are too small."""


class GpuBackend:
    def __init__(
        self, device: torch.device, dtype: torch.dtype, invariant: bool = False, record: Record | None = None
    ) -> None:
        """`record` instead of CUDA graphs."""
        if str(device) == "cuda":
            device = torch.device("cuda", 0)
        self.device, self.dtype, self.invariant = device, dtype, invariant
        self.products: Products = InvariantProducts() if invariant else FastProducts()
        self._record = record
        self._cuda = device.type == "cuda"
        self.limits: Mapping[str, int] = {}
        self.head_room = 1
        self.memory_bytes: int | None = None
        if self._cuda:
            torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False  # sums are float32 to the end
            self.memory_bytes = int(PART_OF_DEVICE * torch.cuda.get_device_properties(device).total_memory)
            self.head_room = 32
            self.limits = {
                "micro_batch_tokens": 8192,
                "sample_rows": 128,
                "prefill_tokens": 8192,
                "cache_tokens": 1 << 20,
            }

    @property
    def records(self) -> bool:
        """Whether decoding steps can be recorded: not where products ask the host for the borders of their groups."""
        if self._cuda:
            return self.invariant or (self.dtype == torch.bfloat16 and has_kernel(self.device))
        return self._record is not None

    def recorder(self) -> Record:
        return self._record or (CudaGraphs() if self._cuda else call_again)

    def rms_norm(self, x: Tensor, folded: Tensor, eps: float) -> Tensor:
        if not kernels_serve(x):
            return rms_norm(x.float(), folded, eps).to(x.dtype)
        from hone.engine.backends.kernels import norm  # on use: there may be no Triton

        return norm.rms_norm(x, folded, eps)

    def packed(self, lengths: Sequence[int]) -> Attend:
        return PackedRows(lengths, self.device, self.invariant)

    def cache(self, layers: int, blocks: int, kv_heads: int, head_dim: int) -> KeyValueCache:
        return KeyValueCache(layers, blocks, kv_heads, head_dim, self.device, self.dtype)

    def prefill(
        self, lengths: Sequence[int], cache: KeyValueCache, slots_T: Tensor, continued: Sequence[Continuation]
    ) -> Attend:
        whole = PackedRows(lengths, self.device, self.invariant)
        return PrefillPages(whole, sum(lengths), cache, slots_T, continued)

    def training_lora(self, parts: Sequence[Part], backward: bool) -> BankedLora:
        tenants = [
            Tenant(start, stop, a.layout, a.weights, a.gradient_views() if backward else None)
            for start, stop, a in parts
        ]
        return BankedLora.of(self.products, tenants, parts[-1][1], self.device, self.dtype)

    def sampling_lora(self, versions: Sequence[AdapterVersion | None], starts: Sequence[int]) -> BankedLora:
        tenants: list[Tenant] = []
        for version, start, stop in zip(versions, starts, starts[1:], strict=False):
            if version is None:
                continue
            if tenants and tenants[-1].flat is version.flat and tenants[-1].stop == start:
                start = tenants.pop().start
            tenants.append(Tenant(start, stop, version.layout, version.flat))
        return BankedLora.of(self.products, tenants, starts[-1], self.device, self.dtype)

    def version(self, layout: LoraLayout, flat: Tensor) -> AdapterVersion:
        return AdapterVersion(layout, flat.to(self.device, self.dtype))

    def layers(self, decoder: "Decoder") -> None:
        """Those that are written in C are for CPUs."""

    def sampling(self, model: "LoadedModel", cache: KeyValueCache, max_rows: int) -> SamplingPasses:
        # which know decoders, and they their backend
        from hone.engine.backends.decode import Decoding
        from hone.engine.sampling.prefill import run_chunks

        return SamplingPasses(partial(run_chunks, model, cache), Decoding(self, model, cache, max_rows))
