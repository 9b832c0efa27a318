"""Decoding on a GPU: running sequences laid out by adapter, and steps recorded once for many.

Sampler versions that decode have a slot each of a bank on the device, least recently used ones making room; slot 0 is
no adapter. Models of transformers and experts, whose steps depend on the host, and float32, whose grouped products do,
run unrecorded.

Legend: B rows.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import ReferenceType, ref

import numpy as np
import torch
from torch import Tensor

from hone.engine.attention import BLOCK, KeyValueCache
from hone.engine.backends.attention import DecodePages
from hone.engine.backends.bank import Bank, BankedLora, SlotWeights, bank_layout
from hone.engine.backends.graphs import Bucket, RecordedSteps, StepBuffers, StepInputs, bucket_of, call_again
from hone.engine.backends.grouped import Groups
from hone.engine.lora.batch import LoraSpan
from hone.engine.lora.layout import LoraLayout
from hone.engine.models.decoder import Decoder
from hone.engine.sampling.draw import DrawSettings, draw_settings
from hone.engine.sampling.request import RunningSequence
from hone.engine.sampling.rows import head_logits
from hone.engine.sampling.version import AdapterVersion

if TYPE_CHECKING:
    from hone.engine.backends.gpu import GpuBackend
    from hone.engine.models.load import LoadedModel


MIN_SLOTS = 8


class Decoding:
    """Lays out the running sequences of one sampler."""

    def __init__(self, backend: "GpuBackend", model: "LoadedModel", cache: KeyValueCache, max_rows: int) -> None:
        config = model.config
        self._backend, self._model, self._cache = backend, model, cache
        self.most_rows, self.most_keys = max_rows, -(-config.max_context // BLOCK) * BLOCK
        # what depends on the host in the middle of a step cannot be recorded
        self._recorded = isinstance(model.decoder, Decoder) and not config.experts and backend.records
        self._steps = RecordedSteps(self.step, backend.recorder() if self._recorded else call_again)
        self._bank: Bank | None = None
        self._slots: OrderedDict[int, tuple[int, ReferenceType[AdapterVersion]]] = OrderedDict()
        """By identity, slot and version, which this does not keep alive; least recently used ones first."""
        self._layouts: frozenset[LoraLayout] = frozenset()
        self._buffers = StepBuffers(self.most_rows, self.most_keys, 1, backend.device)
        self._owners: list[LoraSpan | None] = [None]
        self._stops: tuple[int, ...] = (0,)

    def __call__(self, sequences: Sequence[RunningSequence]) -> "DecodingRows | RowsAnew":
        if not self._model.config.cached:
            return RowsAnew(self._backend, self._model, sequences)
        self.hold([s.request.version for s in sequences if s.request.version is not None])
        return DecodingRows(self, sequences, self._backend.device)

    def slot(self, version: AdapterVersion | None) -> int:
        return 0 if version is None else self._slots[id(version)][0]

    def hold(self, wanted: Sequence[AdapterVersion]) -> None:
        """Have all of these in the bank."""
        versions = {id(version): version for version in wanted}
        layouts = self._layouts | {version.layout for version in versions.values()}
        slots = 0 if self._bank is None else len(self._bank.flat_SN)
        if versions and (layouts != self._layouts or len(versions) >= slots):
            slots = max(slots, MIN_SLOTS)
            while slots <= len(versions):
                slots *= 2
            self._layouts, layout = layouts, bank_layout(layouts)
            flat_SN = torch.zeros(slots, layout.size, dtype=self._backend.dtype, device=self._backend.device)
            self._bank = Bank(layout, flat_SN)
            self._buffers = StepBuffers(self.most_rows, self.most_keys, slots, self._backend.device)
            self._slots.clear()
            self._steps.forget()
        missing = []
        for key, version in versions.items():
            if key in self._slots and self._slots[key][1]() is version:
                self._slots.move_to_end(key)
            else:
                missing.append(version)
        for version in missing:
            assert self._bank is not None
            slot = len(self._slots) + 1
            if id(version) in self._slots:  # of one that is gone
                slot, _ = self._slots.pop(id(version))
            elif slot == len(self._bank.flat_SN):
                _, (slot, _) = self._slots.popitem(last=False)
            self._bank.put(slot, version.layout, version.flat)
            self._slots[id(version)] = slot, ref(version)

    def lay_out(self, inputs: StepInputs, bucket: Bucket, versions: Sequence[AdapterVersion | None]) -> None:
        scales = [1.0 if version is None else version.scale for version in versions]
        self._buffers.lay_out(inputs, bucket, scales)
        if self._recorded:
            return
        stops = self._buffers.stops()
        self._stops, self._owners = tuple(stops), [None] * len(stops)
        for row, version in enumerate(versions):
            slot = inputs.slots[row]
            if version is not None and self._owners[slot] is None:
                assert self._bank is not None
                own = SlotWeights(self._bank, slot, version.layout)
                start = stops[slot - 1]
                self._owners[slot] = LoraSpan(start, stops[slot], own, None, version.scale)

    def logits(self, inputs: StepInputs, bucket: Bucket) -> Tensor:
        self._buffers.fill(inputs, bucket)
        return self._steps(bucket)

    def step(self, bucket: Bucket) -> Tensor:
        """What is recorded."""
        buffers, rows, backend = self._buffers, slice(bucket.rows), self._backend
        tables_BN = buffers.tables_BN[rows, : bucket.keys // BLOCK]
        places_B, slots_B = buffers.places_B[rows], buffers.cache_slots_B[rows]
        attend = DecodePages(self._cache, tables_BN, slots_B, places_B, bucket.keys, backend.invariant)
        bank, groups = self._bank if bucket.adapters else None, Groups(buffers.stops_S, None)
        owners: Sequence[LoraSpan | None] = [None] * len(buffers.stops_S)
        if not self._recorded:
            owners, groups = self._owners, Groups(buffers.stops_S, self._stops)
        lora = BankedLora(backend.products, bank, owners, groups, buffers.scale_B1)
        hidden_Bh = self._model.decoder.forward(buffers.tokens_B[rows], buffers.positions_B[rows], attend, lora)
        return head_logits(self._model, hidden_Bh, lora)


class DecodingRows:
    """The sequences that run together, those of one adapter side by side."""

    def __init__(self, decoding: Decoding, sequences: Sequence[RunningSequence], device: torch.device) -> None:
        self._decoding = decoding
        self.sequences = sorted(sequences, key=lambda s: decoding.slot(s.request.version))
        self.settings: DrawSettings = draw_settings([s.request.operation.params for s in self.sequences]).to(device)
        self._versions = [s.request.version for s in self.sequences]
        self._slots = [decoding.slot(version) for version in self._versions]
        self._bucket: Bucket | None = None
        """As laid out."""

    def grow(self, sequence: RunningSequence) -> bool:
        self._bucket = None
        return True

    def logits(self) -> Tensor:
        tokens, positions = [s.tokens[-1] for s in self.sequences], [s.position for s in self.sequences]
        inputs = StepInputs(tokens, positions, [s.blocks for s in self.sequences], self._slots)
        decoding, adapters = self._decoding, any(self._slots)
        bucket = bucket_of(len(tokens), max(positions) + 1, adapters, decoding.most_rows, decoding.most_keys)
        if self._bucket is None:
            decoding.lay_out(inputs, bucket, self._versions)
        self._bucket = bucket
        return decoding.logits(inputs, bucket)[: len(tokens)]


class RowsAnew:
    """The sequences of a model that cannot go on from a cache: every token takes a pass over everything so far."""

    def __init__(self, backend: "GpuBackend", model: "LoadedModel", sequences: Sequence[RunningSequence]) -> None:
        self._backend, self._model, self.sequences = backend, model, list(sequences)
        self.settings: DrawSettings = draw_settings([s.request.operation.params for s in sequences]).to(backend.device)

    def grow(self, sequence: RunningSequence) -> bool:
        return True  # there is no cache

    def logits(self) -> Tensor:
        tokens, device = [s.all_tokens() for s in self.sequences], self._backend.device
        lengths = [len(t) for t in tokens]
        starts = np.cumsum([0, *lengths])
        lora = self._backend.sampling_lora([s.request.version for s in self.sequences], starts.tolist())
        tokens_T = torch.from_numpy(np.concatenate(tokens).astype(np.int64)).to(device)
        positions_T = torch.cat([torch.arange(n) for n in lengths]).to(device)
        hidden_Th = self._model.decoder.forward(tokens_T, positions_T, self._backend.packed(lengths), lora)
        return head_logits(self._model, hidden_Th, lora)[torch.from_numpy(starts[1:] - 1).to(device)]
