"""The sequences that run together, laid out for decoding until one of them joins or leaves.

`native_rows.py` does the same in C where that is possible, to the same bits.
"""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from hone.engine.attention import BLOCK, DecodeAttention, KeyValueCache, PackedAttention, stable_blocks
from hone.engine.compiled import compiled, kept
from hone.engine.head import capped
from hone.engine.lora.batch import LoraBatch, LoraSpan
from hone.engine.models.decoder import Decoder
from hone.engine.models.load import LoadedModel
from hone.engine.models.pictures import Pictured
from hone.engine.models.weights import DenseMlp, LayerWeights
from hone.engine.rowwise import MIN_COLUMNS, MIN_ROWS
from hone.engine.sampling.request import RunningSequence
from hone.engine.sampling.row_table import RowTable
from hone.engine.sampling.step import StepLayer, StepLora, StepRows, StepShape, dense_step
from hone.engine.sampling.version import adapter_spans


class RunningRows:
    """Fed by the model's own operations. Rows beyond the sequences are padding, which the matrix products have and the
    attention has not."""

    def __init__(self, model: LoadedModel, cache: KeyValueCache, sequences: Sequence[RunningSequence]) -> None:
        self._table = table = RowTable(sequences, MIN_ROWS)
        self.sequences, self.settings = table.sequences, table.settings
        self._model, self._cache = model, cache
        # the padding goes with the last adapter, so that its products need none of their own
        spans = adapter_spans(table.versions, [*range(len(sequences)), table.rows])
        self._step = _DenseStep(model, cache, spans) if _DenseStep.serves(model, spans) else None
        self._lora = LoraBatch(spans)

    def grow(self, sequence: RunningSequence) -> bool:
        return self._table.grow(sequence)

    def logits(self) -> Tensor:
        """Feed every sequence its newest token; what comes next, [B, V]."""
        if not self._model.config.cached:
            return self._logits_anew()
        count, positions = len(self.sequences), self._table.fill()
        tokens_T, positions_T, slots_T = self._table.inputs_3T
        blocks_BN = self._table.blocks_BN[:, : stable_blocks(max(positions) // BLOCK + 1)]
        slots_B, positions_B = slots_T[:count], positions_T[:count]
        if self._step is not None:
            return self._step(tokens_T, positions_T, slots_B, blocks_BN)[:count]
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
        last = [*(stop - 1 for stop in starts[1:]), *[starts[-1] - 1] * (self._table.rows - count)]
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

    def __call__(self, tokens_T: Tensor, positions_T: Tensor, slots_B: Tensor, blocks_BN: Tensor) -> Tensor:
        """[T, V]"""
        return self._run(tokens_T, positions_T, slots_B, blocks_BN, *self._fixed)


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
