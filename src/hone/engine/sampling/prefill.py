"""Puts tokens into the cache, chunk by chunk: prompts, and what preempted sequences had been fed.

Legend: T rows of the chunks, h hidden.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hone.engine.attention import BLOCK, Continuation, KeyValueCache
from hone.engine.contract import Share
from hone.engine.models.load import LoadedModel
from hone.engine.models.pictures import Pictured
from hone.engine.sampling.prompt import PromptScores
from hone.engine.sampling.request import RunningSequence, SampleRequest
from hone.engine.sampling.version import AdapterVersion


@dataclass(eq=False)
class Prefill:
    """Tokens that must be in the cache before something can be drawn."""

    request: SampleRequest
    sequence: RunningSequence | None = None
    """Whose tokens so far they are; None: the prompt, for all samples of the request that have not started."""
    done: int = 0
    """How many of the tokens are in the cache: full blocks, or all."""
    blocks: list[int] = field(default_factory=list)
    """For all of the tokens, from when it begins until it is preempted."""
    followers: list[tuple[int, "Prefill"]] = field(default_factory=list)
    """Those that begin with the same tokens, and how many: they wait until these are in the cache."""

    def __post_init__(self) -> None:
        self.tokens: np.ndarray = self.sequence.fed_tokens() if self.sequence else self.request.operation.prompt

    @property
    def age(self) -> tuple[int, int]:
        """Of the sequence that comes next out of it; older is smaller."""
        return self.sequence.age if self.sequence else (self.request.number, self.request.waiting[-1])

    @property
    def share(self) -> Share:
        return self.request.operation.share

    @property
    def samples(self) -> int:
        """Rows of the running batch that it will want."""
        return 1 if self.sequence else len(self.request.waiting)

    @property
    def left(self) -> int:
        return len(self.tokens) - self.done

    @property
    def next_goal(self) -> int:
        """Tokens until somebody can go on: itself, or one of its followers."""
        return min([self.left, *(shared - self.done for shared, _ in self.followers)])

    @property
    def is_read(self) -> bool:
        """Whether something of the model's output is wanted, not only what it leaves in the cache."""
        return self.sequence is None and self.request.first_logits_1V is None

    @property
    def is_scored(self) -> bool:
        return self.is_read and PromptScores.wanted(self.request.operation)

    @property
    def reusable(self) -> int:
        """Leading tokens that need not be computed if the cache has them: not the last if its logits are wanted, none
        if they are scored."""
        return 0 if self.is_scored else len(self.tokens) - self.is_read

    def shared_with(self, other: "Prefill") -> int:
        """Leading tokens, in full blocks, that `other` puts into the cache and that are of use here."""
        if self.request.weights != other.request.weights:
            return 0
        most = min(self.reusable, len(other.tokens)) // BLOCK * BLOCK
        equal = self.tokens[:most] == other.tokens[:most]
        return most if equal.all() else int(equal.argmin()) // BLOCK * BLOCK


class Chunk(NamedTuple):
    prefill: Prefill
    stop: int
    """How many of its tokens are in the cache afterwards; a multiple of `BLOCK`, or all."""

    @property
    def start(self) -> int:
        return self.prefill.done

    @property
    def length(self) -> int:
        return self.stop - self.start

    @property
    def blocks(self) -> list[int]:
        """Those of all positions before its stop."""
        return self.prefill.blocks[: -(-self.stop // BLOCK)]


@dataclass
class ChunkRows:
    """The chunks of one pass, one below the other."""

    chunks: list[Chunk]
    starts: list[int]
    """The first row of each, and the row behind the last."""
    inputs_3T: Tensor
    """Tokens, positions, slots."""

    @classmethod
    def of(cls, chunks: Sequence[Chunk]) -> "ChunkRows":
        # beginnings before what continues them; one adapter side by side, equal lengths side by side: fewer and larger
        # products
        order = sorted(chunks, key=lambda c: (c.start > 0, c.prefill.request.weights, c.length))
        starts = np.cumsum([0, *(c.length for c in order)]).tolist()
        tokens_T = np.concatenate([c.prefill.tokens[c.start : c.stop] for c in order])
        positions_T = np.concatenate([np.arange(c.start, c.stop) for c in order])
        slots_T = np.concatenate([_slots(c) for c in order])
        return cls(order, starts, torch.from_numpy(np.stack([tokens_T, positions_T, slots_T]).astype(np.int64)))

    @property
    def versions(self) -> list[AdapterVersion | None]:
        return [c.prefill.request.version for c in self.chunks]

    @property
    def lengths(self) -> list[int]:
        return [c.length for c in self.chunks]

    def split(self, hidden_Th: Tensor) -> list[tuple[Chunk, Tensor]]:
        return list(zip(self.chunks, hidden_Th.split(self.lengths), strict=True))


def run_chunks(model: LoadedModel, cache: KeyValueCache, chunks: Sequence[Chunk]) -> list[tuple[Chunk, Tensor]]:
    """One pass over all chunks; the hidden states [chunk's tokens, h] of each. What each leaves in the cache depends on
    its tokens alone."""
    rows = ChunkRows.of(chunks)
    continued = [
        Continuation(row, c.length, c.start, torch.tensor(c.blocks))
        for c, row in zip(rows.chunks, rows.starts, strict=False)
        if c.start
    ]
    backend = model.backend
    tokens, positions, slots = rows.inputs_3T.to(backend.device)
    lora = backend.sampling_lora(rows.versions, rows.starts)
    attend = backend.prefill([c.stop for c in rows.chunks if not c.start], cache, slots, continued)
    pictured = [
        Pictured(row, row + c.length, c.start, images)
        for c, row in zip(rows.chunks, rows.starts, strict=False)
        if (images := c.prefill.request.operation.images)
    ]
    return rows.split(model.decoder.forward(tokens, positions, attend, lora, pictured=pictured))


def _slots(chunk: Chunk) -> np.ndarray:
    positions = np.arange(chunk.start, chunk.stop)
    slots: np.ndarray = np.array(chunk.blocks)[positions // BLOCK] * BLOCK + positions % BLOCK
    return slots
