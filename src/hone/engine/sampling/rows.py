"""The sequences that run together, laid out for decoding until one of them joins or leaves."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from hone.engine.attention import BLOCK, DecodeAttention, KeyValueCache, PackedAttention, stable_blocks
from hone.engine.head import capped
from hone.engine.lora.batch import LoraBatch, LoraSpan
from hone.engine.models.decoder import Decoder
from hone.engine.models.load import LoadedModel
from hone.engine.models.pictures import Pictured
from hone.engine.models.weights import DenseMlp, LayerWeights
from hone.engine.rowwise import MIN_COLUMNS, MIN_ROWS
from hone.engine.sampling.alone import AlonePages
from hone.engine.sampling.compiled import compiled, kept
from hone.engine.sampling.draw import DrawSettings, draw_settings
from hone.engine.sampling.request import RunningSequence
from hone.engine.sampling.step import (
    StepAlone,
    StepLayer,
    StepLora,
    StepRows,
    StepShape,
    dense_step,
)
from hone.engine.sampling.version import adapter_spans

SPARE_BLOCKS = 16
"""Room for so many more per sequence, until the rows are laid out anew."""


class RunningRows:
    """One row for each sequence, neighbours on one adapter side by side; further rows are padding, which the matrix
    products have and the attention has not."""

    def __init__(self, model: LoadedModel, cache: KeyValueCache, sequences: Sequence[RunningSequence]) -> None:
        self.sequences = sorted(sequences, key=lambda s: s.request.operation.version or "")
        self.settings: DrawSettings = draw_settings([s.request.operation.params for s in self.sequences])
        self._model, self._cache = model, cache
        self._padding = max(0, MIN_ROWS - len(sequences))
        most = max(len(s.blocks) for s in sequences)
        self._table_BN = np.zeros((len(sequences), stable_blocks(most + SPARE_BLOCKS)), np.int64)
        for row, sequence in enumerate(self.sequences):
            self._table_BN[row, : len(sequence.blocks)] = sequence.blocks
        self._blocks_BN = torch.from_numpy(self._table_BN)
        self._inputs = np.zeros((3, len(sequences) + self._padding), np.int64)
        self._tokens_T, self._positions_T, self._slots_T = torch.from_numpy(self._inputs)
        # the padding goes with the last adapter, so that its products need none of their own
        starts = [*range(len(sequences)), len(sequences) + self._padding]
        spans = adapter_spans([s.request.version for s in self.sequences], starts)
        self._step = _DenseStep(model, cache, spans) if _DenseStep.serves(model, spans) else None
        self._lora = LoraBatch(spans)
        alone = self._step is not None and len(sequences) == 1
        self._alone = AlonePages.of(cache, sequences[0].blocks, self._table_BN.shape[1]) if alone else None

    def grow(self, sequence: RunningSequence) -> bool:
        """Take notice of a sequence's newest block; false if there is no room for it here."""
        last = len(sequence.blocks) - 1
        if stable_blocks(last + 1) > self._table_BN.shape[1]:
            return False
        self._table_BN[self.sequences.index(sequence), last] = sequence.blocks[last]
        if self._alone is not None and not self._alone.continues_with(sequence.blocks):
            self._alone = None
        return True

    def logits(self) -> Tensor:
        """Feed every sequence its newest token; what comes next, [B, V]."""
        if not self._model.config.cached:
            return self._logits_anew()
        count, positions = len(self.sequences), [s.position for s in self.sequences]
        slots = [s.blocks[p // BLOCK] * BLOCK + p % BLOCK for s, p in zip(self.sequences, positions, strict=True)]
        self._inputs[:, :count] = [s.tokens[-1] for s in self.sequences], positions, slots
        tokens_T, positions_T, slots_B = self._tokens_T, self._positions_T, self._slots_T[:count]
        blocks_BN = self._blocks_BN[:, : stable_blocks(max(positions) // BLOCK + 1)]
        if self._step is not None:
            alone = None if self._alone is None else self._alone.at(positions[0], blocks_BN.shape[1])
            return self._step(tokens_T, positions_T, slots_B, blocks_BN, alone)[:count]
        positions_B = positions_T[:count]
        attend = DecodeAttention(self._cache, blocks_BN, slots_B, positions_B)
        pictured = [
            Pictured(row, row + 1, position, s.request.operation.images)
            for row, (s, position) in enumerate(zip(self.sequences, positions, strict=True))
            if s.request.operation.images
        ]
        hidden_Th = self._model.decoder.forward(tokens_T, positions_T, attend, self._lora, pictured=pictured)
        return head_logits(self._model, hidden_Th, self._lora)[:count]

    def _logits_anew(self) -> Tensor:
        """The same for a model that cannot go on from a cache: one pass over everything so far."""
        count, tokens = len(self.sequences), [s.all_tokens() for s in self.sequences]
        starts = np.cumsum([0, *(len(t) for t in tokens)]).tolist()
        spans = adapter_spans([s.request.version for s in self.sequences], starts)
        tokens_T = torch.from_numpy(np.concatenate(tokens).astype(np.int64))
        positions_T = torch.cat([torch.arange(len(t)) for t in tokens])
        attend = PackedAttention([len(t) for t in tokens])
        pictured = [
            Pictured(start, stop, 0, s.request.operation.images)
            for s, start, stop in zip(self.sequences, starts, starts[1:], strict=False)
            if s.request.operation.images
        ]
        hidden_Th = self._model.decoder.forward(tokens_T, positions_T, attend, LoraBatch(spans), pictured=pictured)
        last = [*(stop - 1 for stop in starts[1:]), *[starts[-1] - 1] * self._padding]
        return head_logits(self._model, hidden_Th[last], self._lora)[:count]


def head_logits(model: LoadedModel, hidden_Th: Tensor, lora: LoraBatch) -> Tensor:
    """[T, V]"""
    logits_TV = lora.project("head", hidden_Th, model.decoder.weights.head)
    return capped(logits_TV, model.config.logit_cap)


class _DenseStep:
    """The arguments of the compiled step that stay the same while the rows do."""

    @staticmethod
    def serves(model: LoadedModel, spans: Sequence[LoraSpan]) -> bool:
        """Experts, models of transformers, adapters of rank 1 and those of so high a rank that their matrices lie apart
        take the long way."""
        if not isinstance(model.decoder, Decoder):
            return False
        groups = [group for span in spans for group in span.weights.values()]
        return not model.config.experts and all(len(g.b) == 1 and g.a.shape[0] >= MIN_COLUMNS for g in groups)

    def __init__(self, model: LoadedModel, cache: KeyValueCache, spans: Sequence[LoraSpan]) -> None:
        assert isinstance(model.decoder, Decoder)
        config, weights = model.config, model.decoder.weights
        names = [f"model.layers.{i}.{g}" for i in range(config.layers) for g in ("qkv", "o", "gate_up", "down")]
        rows, borders = _widened([(s.start, s.stop) for s in spans])
        eps_sum, head_eps_sum = (torch.tensor(d * config.rms_norm_eps) for d in (config.hidden_size, config.head_dim))
        self._run = compiled(dense_step)
        self._fixed = (
            kept([entries.flatten(0, 1) for entries in cache.entries]),
            weights.embedding,
            *model.decoder.rope,
            kept([_step_layer(layer) for layer in weights.layers]),
            weights.final_norm,
            weights.head.t(),
            _step_lora([*names, "head"], spans, borders),
            rows,
            StepShape(config.heads, config.kv_heads, config.head_dim, BLOCK, MIN_ROWS, eps_sum, head_eps_sum),
        )

    def __call__(
        self, tokens_T: Tensor, positions_T: Tensor, slots_B: Tensor, blocks_BN: Tensor, alone: StepAlone | None
    ) -> Tensor:
        """[T, V]"""
        return self._run(tokens_T, positions_T, slots_B, blocks_BN, alone, *self._fixed)


def _step_layer(layer: LayerWeights) -> StepLayer:
    assert isinstance(layer.mlp, DenseMlp)
    return StepLayer(
        attention_norm=layer.attention_norm,
        qkv=layer.qkv.t(),
        qk_norm=layer.qk_norm,
        o=layer.o.t(),
        mlp_norm=layer.mlp_norm,
        gate_up=layer.mlp.gate_up.t(),
        down=layer.mlp.down.t(),
    )


def _step_lora(groups: Sequence[str], spans: Sequence[LoraSpan], borders: Sequence[tuple[int, int]]) -> StepLora:
    """`borders` says where the rows of each span lie."""
    places = list(zip(spans, borders, strict=True))
    found = [[(span, span.weights[g], *rows) for span, rows in places if g in span.weights] for g in groups]
    entries = [entry for group in found for entry in group]
    return StepLora(
        first=kept(list(accumulate((len(group) for group in found), initial=0))),
        starts=kept([start for _, _, start, _ in entries]),
        stops=kept([stop for _, _, _, stop in entries]),
        a=kept([matrices.a.t() for _, matrices, _, _ in entries]),
        b=kept([matrices.b[0].t() for _, matrices, _, _ in entries]),
        scales=kept([span.scale for span, _, _, _ in entries]),
    )


def _widened(borders: Sequence[tuple[int, int]]) -> tuple[StepRows, list[tuple[int, int]]]:
    """The rows with at least `MIN_ROWS` for each adapter, and its new borders; an adapter's first row fills up.

    Rows of the base model are not among them: their place is before all adapters, and they take nothing from these.
    """
    if all(stop - start >= MIN_ROWS for start, stop in borders):
        return StepRows(None, None), list(borders)
    base = borders[0][0]
    gather, scatter, widened = list(range(base)), list(range(base)), []
    for start, stop in borders:
        widened.append((len(gather), len(gather) + max(stop - start, MIN_ROWS)))
        scatter += range(len(gather), len(gather) + stop - start)
        gather += [*range(start, stop), *[start] * (MIN_ROWS - (stop - start))]
    return StepRows(torch.tensor(gather), torch.tensor(scatter)), widened
