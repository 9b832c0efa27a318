"""Which work runs next: all of the engine's policy, and no tensors.

Operations of one adapter run in order. What is no pass over data (steps, saves, publications) runs the moment it is
first in its adapter's line. Passes are cut into pieces, which share the device by start-time fair queueing (Goyal et
al. 1996): tenants by tokens and weights, and the adapters of a tenant among each other. A start tag says how many
tokens were served so far; whoever comes back after a pause starts at the clock, the smallest tag of those
that wait, so it neither waits behind the backlog of the others nor saves up credit.

Of those that wait only the ones with the highest priority count; the others have their turn when these have none.
Micro-batches are led in turn by the smallest tag and by the smallest piece of those that are not ahead of the clock by
more than a micro-batch. So nobody starves, and who asks for little waits for two micro-batches at most beside the one
that it is in, however many have a backlog.
"""

from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from hone.engine.batch import Piece
from hone.engine.contract import AdapterOperation, Share

REMEMBERED = 1000
"""Tags of those without work; beyond this, the ones that mean nothing any more are forgotten."""


@dataclass(eq=False)
class Job:
    """One operation on one adapter; `pieces` are what is left of it, if it is a forward or backward pass."""

    ticket: int
    operation: AdapterOperation
    pieces: deque[Piece] | None = None
    base_model: str = ""
    share: Share = field(default_factory=Share)
    """Both known with the pieces."""
    arrived: float = 0.0
    """Seconds on the loop's clock."""


class _Candidate(NamedTuple):
    """Ordered by whose turn it is; among equals small pieces come first, they keep the others waiting least."""

    tenant_tag: float
    adapter_tag: float
    tokens: int
    number: int
    due: bool
    """Whether neither was served more than a micro-batch, or the largest piece, beyond its turn."""
    job: Job


class Scheduler:
    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        """Of a micro-batch. Raising it feeds the device better and makes everybody wait longer."""
        self._lines: dict[str, deque[Job]] = {}
        """Each adapter's jobs, in order."""
        self._immediate: OrderedDict[str, None] = OrderedDict()
        """Adapters whose first job is no pass."""
        self._passes: dict[str, Job] = {}
        """By adapter, the passes that are first in line."""
        self._tenants: defaultdict[int, _FairClock] = defaultdict(_FairClock)
        """By priority."""
        self._adapters: dict[str, _FairClock] = {}
        """By tenant."""
        self._small_leads = False

    def add(self, job: Job) -> None:
        line = self._lines.setdefault(job.operation.adapter, deque())
        line.append(job)
        if len(line) == 1:
            self._admit(job)

    def __bool__(self) -> bool:
        """Whether there is something to run; lines that rest wait for somebody else."""
        return bool(self._immediate or self._passes)

    def has_work(self, adapter: str) -> bool:
        """Whether anything waits in its line."""
        return adapter in self._lines

    def next_immediate(self) -> Job | None:
        """A job that is first in its line and is no pass over data; it is removed."""
        if not self._immediate:
            return None
        adapter, _ = self._immediate.popitem(last=False)
        job = self._lines[adapter].popleft()
        self._advance(adapter)
        return job

    def put_back(self, job: Job, pieces: list[Piece], base_model: str, share: Share) -> None:
        """Return a job that `next_immediate` gave out to the head of its line, as a pass over `pieces`."""
        job.pieces, job.base_model, job.share = deque(pieces), base_model, share
        adapter = job.operation.adapter
        self._immediate.pop(adapter, None)
        self._lines.setdefault(adapter, deque()).appendleft(job)
        self._admit(job)

    def rest(self, job: Job) -> None:
        """Return a job that `next_immediate` gave out to the head of its line, where nothing runs until `remove`."""
        adapter = job.operation.adapter
        self._immediate.pop(adapter, None)
        self._lines.setdefault(adapter, deque()).appendleft(job)

    def remove(self, job: Job) -> None:
        """Take a job out of its line, if it is still there."""
        adapter = job.operation.adapter
        line = self._lines.get(adapter)
        if line is None or job not in line:
            return
        first = line[0] is job
        line.remove(job)
        if first:
            self._dismiss(job)
            self._advance(adapter)

    def next_micro_batch(self) -> list[tuple[Job, Piece]]:
        """The pieces to compute together; empty if no pass is first in line.

        One piece per adapter, all of one base model, and either all with a backward pass or none. The leader always
        runs. Those that are due fill the room, by decreasing size, or from the smallest on where the smallest leads, so
        that many small ones need not lead one by one; then the others do by tag. A job leaves its line with its last
        piece.
        """
        if not self._passes:
            return []
        highest = max(job.share.priority for job in self._passes.values())
        waiting = sorted(self._candidates(highest))
        by_size = 1 if self._small_leads else -1
        due = sorted((c for c in waiting if c.due), key=lambda c: by_size * c.tokens)  # by tags among equals
        leader = due[0] if self._small_leads and due else waiting[0]
        self._small_leads = not self._small_leads
        chosen, room, kind = [leader.job], self.max_tokens - leader.tokens, _kind(leader.job)
        for candidate in (*due, *(c for c in waiting if not c.due)):
            if candidate.tokens <= room and candidate is not leader and _kind(candidate.job) == kind:
                chosen.append(candidate.job)
                room -= candidate.tokens
        self._tenants[highest].advance()
        for tenant in {job.share.tenant for job in chosen}:
            self._adapters[tenant].advance()
        return [self._take(job) for job in chosen]

    def _candidates(self, priority: int) -> Iterator[_Candidate]:
        tenants = self._tenants[priority]
        waiting = [(adapter, job) for adapter, job in self._passes.items() if job.share.priority == priority]
        ahead = max(self.max_tokens, *(job.pieces[0].tokens for _, job in waiting if job.pieces))
        for number, (adapter, job) in enumerate(waiting):
            assert job.pieces
            siblings = self._adapters[job.share.tenant]
            tags = tenants.tags[job.share.tenant], siblings.tags[adapter]
            due = tags[0] - tenants.now <= ahead and tags[1] - siblings.now <= ahead
            yield _Candidate(*tags, job.pieces[0].tokens, number, due, job)

    def _take(self, job: Job) -> tuple[Job, Piece]:
        assert job.pieces
        adapter, share = job.operation.adapter, job.share
        piece = job.pieces.popleft()
        self._tenants[share.priority].charge(share.tenant, piece.tokens / share.weight)
        self._adapters[share.tenant].charge(adapter, piece.tokens)
        if not job.pieces:
            self._lines[adapter].popleft()
            self._dismiss(job)
            self._advance(adapter)
        return job, piece

    def _admit(self, job: Job) -> None:
        """A job came to the head of its line."""
        adapter, tenant = job.operation.adapter, job.share.tenant
        if job.pieces is None:
            self._immediate[adapter] = None
            return
        self._passes[adapter] = job
        self._tenants[job.share.priority].enter(tenant)
        self._adapters.setdefault(tenant, _FairClock()).enter(adapter)

    def _dismiss(self, job: Job) -> None:
        """A job is no longer at the head of its line."""
        adapter, tenant = job.operation.adapter, job.share.tenant
        if job.pieces is None:
            self._immediate.pop(adapter, None)
            return
        del self._passes[adapter]
        self._tenants[job.share.priority].leave(tenant)
        self._adapters[tenant].leave(adapter)
        if self._adapters[tenant].is_idle:
            self._adapters = {
                name: clock
                for name, clock in self._adapters.items()
                if len(self._adapters) <= REMEMBERED or not clock.is_idle
            }

    def _advance(self, adapter: str) -> None:
        """The head of a line went away."""
        if line := self._lines[adapter]:
            self._admit(line[0])
        else:
            del self._lines[adapter]


class _FairClock:
    """Start tags, in tokens by weight, of those that share something."""

    def __init__(self) -> None:
        self.now = 0.0
        self.tags: dict[str, float] = {}
        self._present: dict[str, int] = {}
        """How many pieces of work each one has here."""

    @property
    def is_idle(self) -> bool:
        return not self._present

    def enter(self, name: str) -> None:
        if name not in self._present:
            self.tags[name] = max(self.now, self.tags.get(name, 0.0))
        self._present[name] = self._present.get(name, 0) + 1

    def leave(self, name: str) -> None:
        self._present[name] -= 1
        if not self._present[name]:
            del self._present[name]
            if len(self.tags) > len(self._present) + REMEMBERED:
                self.tags = {n: tag for n, tag in self.tags.items() if n in self._present or tag > self.now}

    def advance(self) -> None:
        """To the one whose turn it is."""
        self.now = max(self.now, min(self.tags[name] for name in self._present))

    def charge(self, name: str, amount: float) -> None:
        self.tags[name] += amount


def _kind(job: Job) -> tuple[bool, str]:
    """What the pieces of a micro-batch have in common."""
    assert job.pieces
    return job.pieces[0].backward, job.base_model
