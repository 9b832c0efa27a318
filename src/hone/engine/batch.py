"""Cuts training operations into pieces and packs pieces of many tenants into one batch, without padding.

Where an operation is cut depends on that operation alone, never on its neighbours in the batch: so its gradient is
the same sum of the same terms in the same order whoever else is being served.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from hone.engine.contract import ForwardBackward
from hone.engine.losses.inputs import LossInputs, gather_inputs
from hone.engine.models.pictures import Pictured
from hone.protocol.losses import loss_settings
from hone.protocol.types import CustomLoss, Datum


@dataclass(frozen=True)
class Piece:
    """Some whole sequences of one operation, sorted by length."""

    adapter: str
    data: tuple[Datum, ...]
    places: tuple[int, ...]
    """Where each datum stands in its operation."""
    loss_fn: str
    settings: dict[str, float]
    backward: bool
    custom: CustomLoss | None = None

    @cached_property
    def tokens(self) -> int:
        return sum(len(d.tokens) for d in self.data)


def cut(operation: ForwardBackward, max_tokens: int) -> list[Piece]:
    """Pieces of at most `max_tokens`, in the order of the data; a longer sequence is a piece of its own.

    A piece holds targets of one width only: [N], or [N, K] of one K.
    """
    custom = operation.custom
    settings = {} if custom is not None else loss_settings(operation.loss_fn, operation.loss_config)
    groups: list[list[int]] = []
    room, width = 0, None
    for place, datum in enumerate(operation.data):
        new_width = datum.loss_inputs["target_tokens"].shape[1:]
        if len(datum.tokens) > room or new_width != width:
            groups.append([])
            room, width = max_tokens, new_width
        groups[-1].append(place)
        room -= len(datum.tokens)
    pieces = []
    for group in groups:
        # equal lengths side by side: they share one attention call
        places = tuple(sorted(group, key=lambda place: len(operation.data[place].tokens)))
        data = tuple(operation.data[place] for place in places)
        backward = not operation.forward_only
        pieces.append(Piece(operation.adapter, data, places, operation.loss_fn, settings, backward, custom))
    return pieces


@dataclass(frozen=True)
class PackedPiece:
    """A piece's place in a batch: rows `start:stop`, and its targets and loss inputs as tensors."""

    piece: Piece
    start: int
    stop: int
    targets: Tensor
    """int64 [T] or [T, K]"""
    inputs: LossInputs


@dataclass(frozen=True)
class PackedBatch:
    tokens_T: Tensor
    positions_T: Tensor
    lengths: tuple[int, ...]
    pieces: tuple[PackedPiece, ...]
    pictured: tuple[Pictured, ...] = ()
    """The sequences that have images."""


def pack(pieces: Sequence[Piece], device: torch.device | str = "cpu") -> PackedBatch:
    """Lay the pieces one after another; the tensors are on `device`."""
    data = [datum for piece in pieces for datum in piece.data]
    lengths = tuple(len(d.tokens) for d in data)
    packed, row = [], 0
    for piece in pieces:
        targets = torch.from_numpy(
            np.concatenate([d.loss_inputs["target_tokens"] for d in piece.data]).astype(np.int64)
        )
        inputs = gather_inputs(piece.loss_fn, piece.data).to(device)
        packed.append(PackedPiece(piece, row, row + piece.tokens, targets.to(device), inputs))
        row += piece.tokens
    return PackedBatch(
        tokens_T=torch.from_numpy(np.concatenate([d.tokens for d in data]).astype(np.int64)).to(device),
        positions_T=torch.cat([torch.arange(n) for n in lengths]).to(device),
        lengths=lengths,
        pieces=tuple(packed),
        pictured=tuple(
            Pictured(stop - len(d.tokens), stop, 0, d.images)
            for d, stop in zip(data, accumulate(lengths), strict=True)
            if d.images
        ),
    )
