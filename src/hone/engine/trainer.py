"""One pass over a packed batch: forward, losses, backward. A training step reads top to bottom here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from hone.engine import given
from hone.engine.batch import PackedPiece, Piece, pack
from hone.engine.lora.state import AdapterState
from hone.engine.losses import evaluate
from hone.engine.losses.custom.evaluate import evaluate_custom
from hone.engine.losses.value import LossValue
from hone.engine.models.decoder import Decoder
from hone.engine.models.hf import HfDecoder


@dataclass(frozen=True)
class PieceResult:
    loss: float
    logprobs: tuple[np.ndarray, ...]
    """In the order of the piece's data."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Sums over the piece's data, of a custom loss."""


def run_pieces(
    decoder: Decoder | HfDecoder, pieces: Sequence[Piece], adapters: Mapping[str, AdapterState], recomputed: int = 0
) -> list[PieceResult]:
    """Compute the pieces' losses; those with `backward` add to the gradients of their adapters.

    Either all pieces want a backward pass or none does; it computes so many layers again, see `recompute.py`. Each
    piece's outputs and gradients are, bit for bit, what they would be alone.
    """
    ways = [_in_c(decoder, adapters[piece.adapter]) for piece in pieces]
    if len(set(ways)) > 1:
        each = {way: [p for p, own in zip(pieces, ways, strict=True) if own == way] for way in (True, False)}
        found = {way: iter(run_pieces(decoder, some, adapters, recomputed)) for way, some in each.items()}
        return [next(found[way]) for way in ways]
    backward, backend = pieces[0].backward, decoder.backend
    with torch.set_grad_enabled(backward):
        batch = pack(pieces, backend.device)
        lora = backend.training_lora([(p.start, p.stop, adapters[p.piece.adapter]) for p in batch.pieces], backward)
        attend, again = backend.packed(batch.lengths), recomputed if backward else 0
        hidden = decoder.forward(batch.tokens_T, batch.positions_T, attend, lora, again, batch.pictured)
    hidden_Th = hidden.detach()
    dhidden_Th = torch.empty_like(hidden_Th) if backward else None

    results = []
    with torch.no_grad():
        for packed in batch.pieces:
            rows = slice(packed.start, packed.stop)
            own = lora.part(packed.start, packed.stop)
            head = decoder.head(own)
            logprobs = head.logprobs(hidden_Th[rows], packed.targets)
            with torch.enable_grad():
                loss = _loss(packed, logprobs, backward)
            if dhidden_Th is not None:
                head.backward(hidden_Th[rows], packed.targets, loss.dlogprobs, dhidden_Th[rows])
            lengths = [len(d.tokens) for d in packed.piece.data]
            parts = tuple(part.numpy() for part in logprobs.cpu().split(lengths))
            results.append(PieceResult(loss.value, parts, loss.metrics))
            del head  # with what it keeps, before the next one is made
    if dhidden_Th is not None:
        given.backward([hidden], [dhidden_Th])
    return results


def _in_c(decoder: Decoder | HfDecoder, adapter: AdapterState) -> bool:
    """Whether this adapter's layers are computed in C; its own kind decides that, and nobody beside it."""
    return decoder.written_in_c is not None and decoder.written_in_c.serves(adapter.layout)


def _loss(packed: PackedPiece, logprobs: Tensor, backward: bool) -> LossValue:
    piece = packed.piece
    if piece.custom is not None:
        found = evaluate_custom(piece.custom, logprobs.cpu(), piece.data, backward)  # which runs on a CPU only
        return replace(found, dlogprobs=found.dlogprobs.to(logprobs.device))
    return evaluate(piece.loss_fn, logprobs, packed.inputs, piece.settings, backward)
