"""Training passes on several cores: whole sequences are dealt out to threads that compute at the same time.

Each thread computes sequences as if they were alone, which are the same bits anywhere. How a piece is dealt depends on
the piece and its adapter alone. Its first part adds to the adapter's gradient, each further part to one of its own, and
these are added in order when all are done: the sum has the same terms in the same order whoever else is served, and
whichever thread is first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

from torch import Tensor

from hone.engine.batch import Piece
from hone.engine.lora.state import AdapterState
from hone.engine.models.decoder import Decoder
from hone.engine.models.hf import HfDecoder
from hone.engine.trainer import PieceResult, run_pieces
from hone.engine.workers import Workers

LEAST_TOKENS = 128
"""Of a part: with fewer, another thread costs more than it gains."""
FURTHER_WORK = 1 << 16
"""Tokens of a part by hidden size, where there are more than two: Python runs one thread at a time, and small products
leave the others waiting for it."""
LEAST_SUM = 1 << 20
"""Numbers in the gradients of a piece's parts, from which on the threads add them up together."""


class SideBySide:
    """As many threads as there are workers compute while the caller waits."""

    def __init__(self, workers: Workers, gradient_bytes: int = 1 << 27) -> None:
        """`gradient_bytes` may be taken for the further gradients of one piece; for large adapters fewer threads do."""
        self._workers, self._gradient_bytes = workers, gradient_bytes

    def run_pieces(
        self,
        decoder: Decoder | HfDecoder,
        pieces: Sequence[Piece],
        adapters: Mapping[str, AdapterState],
        recomputed: int = 0,
    ) -> list[PieceResult]:
        """As `trainer.run_pieces`. If any part fails, so does the whole, when all parts have ended."""
        threads = self._workers.count
        if threads == 1 or not isinstance(decoder, Decoder) or decoder.backend.device.type != "cpu":
            return run_pieces(decoder, pieces, adapters, recomputed)
        hidden = decoder.config.hidden_size
        worth = [max(2, piece.tokens * hidden // FURTHER_WORK) for piece in pieces]
        dealt = [
            deal(piece, min(threads, most, self._parts(adapters[piece.adapter])))
            for piece, most in zip(pieces, worth, strict=True)
        ]
        if len(dealt) == len(dealt[0]) == 1:
            return run_pieces(decoder, pieces, adapters, recomputed)
        states = _states(dealt, adapters)
        hands = [hand for hand in _hands(dealt, threads) if hand]
        found = self._workers.run([partial(_run, decoder, dealt, hand, states, recomputed) for hand in hands])
        results = dict(result for of_hand in found for result in of_hand)
        for number, parts in enumerate(dealt):
            gradients = [states[number, part].gradient for part in range(len(parts))]
            self._gather([gradient for gradient in gradients if gradient is not None])
        return [
            _joined(piece, dealt[number], [results[number, part] for part in range(len(dealt[number]))])
            for number, piece in enumerate(pieces)
        ]

    def _parts(self, adapter: AdapterState) -> int:
        """How many gradients there may be of this adapter."""
        return 1 + self._gradient_bytes // (4 * adapter.layout.size)

    def _gather(self, gradients: Sequence[Tensor]) -> None:
        """Add the further gradients to the first, in their order."""
        if len(gradients) < 2:
            return
        size = len(gradients[0])
        shares = self._workers.count if size * len(gradients) >= LEAST_SUM else 1
        edges = [size * share // shares for share in range(shares + 1)]
        self._workers.help([partial(_add, gradients, start, stop) for start, stop in pairwise(edges)])


def _add(gradients: Sequence[Tensor], start: int, stop: int) -> None:
    first, *others = gradients
    for other in others:
        first[start:stop] += other[start:stop]


def deal(piece: Piece, hands: int) -> list[Piece]:
    """The piece in up to `hands` parts of about equal size: the longest sequence goes to whoever has least so far.

    A custom loss stays whole: results of parts are put together without metrics.
    """
    longest = len(piece.data[-1].tokens)  # sorted by length
    # further parts would end before the one with the longest sequence does
    parts = min(hands, len(piece.data), piece.tokens // LEAST_TOKENS, -(-piece.tokens // longest))
    if parts < 2 or piece.custom is not None:
        return [piece]
    shares: list[list[int]] = [[] for _ in range(parts)]
    tokens = [0] * len(shares)
    for index in reversed(range(len(piece.data))):
        least = tokens.index(min(tokens))
        shares[least].append(index)
        tokens[least] += len(piece.data[index].tokens)
    return [
        replace(
            piece,
            data=tuple(piece.data[index] for index in reversed(share)),
            places=tuple(piece.places[index] for index in reversed(share)),
        )
        for share in shares
    ]


Key = tuple[int, int]
"""A piece's number in its batch, and a part's in the piece."""


def _states(dealt: Sequence[Sequence[Piece]], adapters: Mapping[str, AdapterState]) -> dict[Key, AdapterState]:
    """What each part computes with, made before anybody computes: further parts have gradients of their own."""
    states: dict[Key, AdapterState] = {}
    for number, parts in enumerate(dealt):
        for part, piece in enumerate(parts):
            adapter = adapters[piece.adapter]
            state = adapter.beside() if part else adapter
            if piece.backward:
                state.gradient_views()
            states[number, part] = state
    return states


def _hands(dealt: Sequence[Sequence[Piece]], threads: int) -> list[list[Key]]:
    """Who computes what. No thread has two parts of a piece, and all have about the same to do."""
    hands: list[list[Key]] = [[] for _ in range(threads)]
    tokens = [0] * threads
    # Those in several parts first: the others then even out what is left.
    for number in sorted(range(len(dealt)), key=lambda n: (-len(dealt[n]), -sum(p.tokens for p in dealt[n]))):
        idlest = sorted(range(threads), key=lambda hand: tokens[hand])
        for part, (hand, piece) in enumerate(zip(idlest, dealt[number], strict=False)):
            hands[hand].append((number, part))
            tokens[hand] += piece.tokens
    return hands


def _run(
    decoder: Decoder,
    dealt: Sequence[Sequence[Piece]],
    hand: Sequence[Key],
    states: Mapping[Key, AdapterState],
    recomputed: int,
) -> list[tuple[Key, PieceResult]]:
    pieces = [dealt[number][part] for number, part in hand]
    adapters = {piece.adapter: states[key] for key, piece in zip(hand, pieces, strict=True)}
    return list(zip(hand, run_pieces(decoder, pieces, adapters, recomputed), strict=True))


def _joined(piece: Piece, parts: Sequence[Piece], results: Sequence[PieceResult]) -> PieceResult:
    """The result of a piece from those of its parts."""
    if len(parts) == 1:
        return results[0]
    by_place = {
        place: logprobs
        for part, result in zip(parts, results, strict=True)
        for place, logprobs in zip(part.places, result.logprobs, strict=True)
    }
    return PieceResult(sum(result.loss for result in results), tuple(by_place[place] for place in piece.places))
