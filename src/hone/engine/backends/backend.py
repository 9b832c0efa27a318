"""What differs between devices. Every decoder carries its backend; everything else is the same code.

`cpu.py` computes in float32 and keeps every bit under any load. `gpu.py` computes in bfloat16 or float32 on a GPU, and,
for tests and for bfloat16, on a CPU.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

from hone.engine.attention import Attend, Continuation, KeyValueCache
from hone.engine.lora.batch import LoraBatch
from hone.engine.lora.layout import LoraLayout
from hone.engine.lora.state import AdapterState
from hone.engine.sampling.version import AdapterVersion

if TYPE_CHECKING:
    from hone.engine.models.decoder import Decoder
    from hone.engine.models.load import LoadedModel
    from hone.engine.native.layers import NativeLayers
    from hone.engine.sampling.draw import DrawSettings
    from hone.engine.sampling.prefill import Chunk
    from hone.engine.sampling.request import RunningSequence

Part = tuple[int, int, AdapterState]
"""First row, row behind the last, and whose they are."""


class Rows(Protocol):
    """Sequences that run together, laid out for decoding until one of them joins or leaves."""

    sequences: list["RunningSequence"]
    """In the order of the rows."""
    settings: "DrawSettings"

    def grow(self, sequence: "RunningSequence") -> bool:
        """Take notice of a sequence's newest block; false if there is no room for it here."""
        ...

    def logits(self) -> Tensor:
        """Feed every sequence its newest token; what comes next, [B, V]."""
        ...


class SamplingPasses(NamedTuple):
    """How a sampler computes."""

    run_chunks: "Callable[[Sequence[Chunk]], list[tuple[Chunk, Tensor]]]"
    """Chunks of prompts go into the cache; the hidden states of each, [its tokens, h]."""
    lay_out: "Callable[[Sequence[RunningSequence]], Rows]"


class Backend(Protocol):
    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype:
        """Of the base model, the cache and the adapters' products; masters, moments and gradients are float32."""
        ...

    @property
    def head_room(self) -> int:
        """How many times more logits than on a CPU may be held at once."""
        ...

    @property
    def limits(self) -> Mapping[str, int]:
        """Those of the engine's sizes that should be others than on a CPU, see `hone.engine.limits.Limits`."""
        ...

    @property
    def memory_bytes(self) -> int | None:
        """What may be taken of the device; None: what the settings say of the machine."""
        ...

    def rms_norm(self, x: Tensor, folded: Tensor, eps: float) -> Tensor:
        """As `hone.engine.models.norm.rms_norm`."""
        ...

    def packed(self, lengths: Sequence[int]) -> Attend:
        """Every sequence of a pack attends to itself."""
        ...

    def cache(self, layers: int, blocks: int, kv_heads: int, head_dim: int) -> KeyValueCache: ...

    def prefill(
        self, lengths: Sequence[int], cache: KeyValueCache, slots_T: Tensor, continued: Sequence[Continuation]
    ) -> Attend:
        """Whole prompts, then those that continue what is cached; keys and values are kept."""
        ...

    def training_lora(self, parts: Sequence[Part], backward: bool) -> LoraBatch:
        """The adapters of a training pass; with `backward`, their gradients are gathered."""
        ...

    def sampling_lora(self, versions: Sequence[AdapterVersion | None], starts: Sequence[int]) -> LoraBatch:
        """The adapters of prompts: part i is the rows `starts[i]:starts[i + 1]`."""
        ...

    def version(self, layout: LoraLayout, flat: Tensor) -> AdapterVersion:
        """Prepare `flat`, which the version keeps and nobody may change any more, for sampling."""
        ...

    def layers(self, decoder: "Decoder") -> "NativeLayers | None":
        """What computes the layers of whole sequences of this model, where it is not the framework."""
        ...

    def sampling(self, model: "LoadedModel", cache: KeyValueCache, max_rows: int) -> "SamplingPasses":
        """The passes of one sampler, of `max_rows` running sequences at the most."""
        ...
