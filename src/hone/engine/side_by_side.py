"""Training passes on several cores: whole sequences are dealt out to threads that compute at the same time.

A product that the math library spreads over threads gets other last bits when its size changes; see decision 0002. So
each thread has a library of one thread, and computes sequences as if they were alone, which are the same bits anywhere.
How a piece is dealt depends on the piece alone. Its first part adds to the adapter's gradient, each further part to one
of its own, and these are added in order when all are done: the sum has the same terms in the same order whoever else is
served, and whichever thread is first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import Barrier

import torch

from hone.engine.batch import Piece
from hone.engine.lora.state import AdapterState
from hone.engine.models.decoder import Decoder
from hone.engine.models.hf import HfDecoder
from hone.engine.trainer import PieceResult, run_pieces

LEAST_TOKENS = 256
"""Of a piece that is dealt out: with fewer, starting another thread costs more than it gains."""


class SideBySide:
    """`threads` threads compute while the caller waits."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "pass", partial(torch.set_num_threads, 1)) if threads > 1 else None
        if self._pool is not None:
            # All of them now: one that cannot be started in a pass, for want of memory, would leave others computing.
            here = Barrier(threads, timeout=60)
            for future in [self._pool.submit(here.wait) for _ in range(threads)]:
                future.result()

    def run_pieces(
        self,
        decoder: Decoder | HfDecoder,
        pieces: Sequence[Piece],
        adapters: Mapping[str, AdapterState],
        recomputed: int = 0,
    ) -> list[PieceResult]:
        """As `trainer.run_pieces`. If any part fails, so does the whole, when all parts have ended."""
        if self._pool is None or not isinstance(decoder, Decoder) or decoder.backend.device.type != "cpu":
            return run_pieces(decoder, pieces, adapters, recomputed)
        dealt = [deal(piece, self._threads) for piece in pieces]
        if len(dealt) == len(dealt[0]) == 1:
            return run_pieces(decoder, pieces, adapters, recomputed)
        states = _states(dealt, adapters)
        hands = _hands(dealt, self._threads)
        computing = [self._pool.submit(_run, decoder, dealt, hand, states, recomputed) for hand in hands if hand]
        for future in computing:
            future.exception()  # waits: nobody may compute any more when a failure is told
        results = dict(found for future in computing for found in future.result())
        for (number, part), state in states.items():
            if part and state.gradient is not None:  # in the order of the parts, after the first one's own
                gathered = adapters[pieces[number].adapter].gradient
                assert gathered is not None
                gathered += state.gradient
        return [
            _joined(piece, dealt[number], [results[number, part] for part in range(len(dealt[number]))])
            for number, piece in enumerate(pieces)
        ]

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()


def deal(piece: Piece, hands: int) -> list[Piece]:
    """The piece in up to `hands` parts of about equal size: the longest sequence goes to whoever has least so far.

    A custom loss stays whole: results of parts are put together without metrics.
    """
    if piece.tokens < LEAST_TOKENS or len(piece.data) < 2 or piece.custom is not None:
        return [piece]
    shares: list[list[int]] = [[] for _ in range(min(hands, len(piece.data)))]
    tokens = [0] * len(shares)
    for index in reversed(range(len(piece.data))):  # sorted by length, the longest last
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
