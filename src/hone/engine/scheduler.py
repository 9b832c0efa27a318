"""Which work runs next: all of the engine's policy, and no tensors.

Operations of one adapter run in order. Training is shared out in turns, a piece of bounded size per adapter and turn,
as many adapters in one micro-batch as its token budget holds: so a small tenant waits for at most the micro-batch
that is running, and a large one cannot starve it. Everything else (steps, saves, publications) runs the moment it is
first in its adapter's line.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from hone.engine.batch import Piece
from hone.engine.contract import AdapterOperation


@dataclass(eq=False)
class Job:
    """One operation on one adapter; `pieces` are what is left of it, if it is a forward or backward pass."""

    ticket: int
    operation: AdapterOperation
    pieces: deque[Piece] | None = None


class Scheduler:
    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        """Of a micro-batch. Raising it feeds the device better and makes everybody wait longer."""
        self._lines: OrderedDict[str, deque[Job]] = OrderedDict()
        """Each adapter's jobs, in order; the adapter whose turn is next comes first."""

    def add(self, job: Job) -> None:
        self._lines.setdefault(job.operation.adapter, deque()).append(job)

    def __bool__(self) -> bool:
        return bool(self._lines)

    def next_immediate(self) -> Job | None:
        """A job that is first in its line and is no pass over data; it is removed."""
        for adapter, line in self._lines.items():
            if line[0].pieces is None:
                job = line.popleft()
                self._drop_if_empty(adapter)
                return job
        return None

    def put_back(self, job: Job, pieces: list[Piece]) -> None:
        """Return a job that `next_immediate` gave out to the head of its line, as a pass over `pieces`."""
        job.pieces = deque(pieces)
        self._lines.setdefault(job.operation.adapter, deque()).appendleft(job)

    def remove(self, job: Job) -> None:
        """Take a job out of its line, if it is still there."""
        line = self._lines.get(job.operation.adapter)
        if line is not None and job in line:
            line.remove(job)
            self._drop_if_empty(job.operation.adapter)

    def next_micro_batch(self, base_model_of: Callable[[str], str]) -> list[tuple[Job, Piece]]:
        """The pieces to compute together, in adapter order; empty if no pass is first in line.

        One piece per adapter, all of one base model, and either all with a backward pass or none. A job leaves its line
        with its last piece.
        """
        batch: list[tuple[Job, Piece]] = []
        room = self.max_tokens
        for adapter in list(self._lines):
            line = self._lines[adapter]
            job = line[0]
            if not job.pieces:
                continue
            piece = job.pieces[0]
            if batch and (
                piece.backward != batch[0][1].backward or base_model_of(adapter) != base_model_of(batch[0][1].adapter)
            ):
                continue
            if batch and piece.tokens > room:
                continue
            room -= piece.tokens
            batch.append((job, job.pieces.popleft()))
            if not job.pieces:
                line.popleft()
            self._lines.move_to_end(adapter)
            self._drop_if_empty(adapter)
        return batch

    def _drop_if_empty(self, adapter: str) -> None:
        if not self._lines[adapter]:
            del self._lines[adapter]
