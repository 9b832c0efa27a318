"""Telling a pass that found no memory from one that failed, and making it smaller."""

from dataclasses import replace

import torch

from hone.engine.batch import Piece
from hone.errors import ServerError

_SAID = ("not enough memory", "can't allocate memory")
"""By the framework's allocator on CPUs, which has no error of its own."""


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether the machine, or the device, could not give the memory that was asked for."""
    said = isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID)
    return said or isinstance(error, MemoryError | torch.OutOfMemoryError)


def free_device_memory() -> None:
    """Give back what the framework holds for later, in pieces that may be too small."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def halves(piece: Piece) -> list[Piece]:
    """The piece in two, of about equally many tokens; itself if it is a single sequence."""
    if len(piece.data) == 1:
        return [piece]
    so_far, cut = 0, 1
    for place, datum in enumerate(piece.data[:-1]):
        so_far += len(datum.tokens)
        cut = place + 1
        if 2 * so_far >= piece.tokens:
            break
    return [replace(piece, data=piece.data[part], places=piece.places[part]) for part in (slice(cut), slice(cut, None))]


def too_large(piece: Piece, found: Exception) -> ServerError:
    """For the client, after `piece` was half of what did not fit, and did not fit either."""
    longest = max(len(datum.tokens) for datum in piece.data)
    return ServerError(
        f"not enough memory for {piece.tokens} tokens at once (the longest sequence has {longest}), also with every "
        f"layer computed again: {found}. Nothing of this request was added to the gradient, and no other one is "
        "concerned. Send shorter sequences, or run the server with more memory"
    )
