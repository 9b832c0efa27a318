"""The scheduler on a virtual clock: thousands of tenants, one device, and nothing computed.

A micro-batch of n tokens takes `OVERHEAD + n` units of time, everything else takes none.
"""

import heapq
import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pytest

from hone.engine.batch import Piece
from hone.engine.contract import ForwardBackward, OptimStep, Share
from hone.engine.scheduler import Job, Scheduler
from hone.protocol.types import AdamParams, Datum

BUDGET = 2000
OVERHEAD = 100
LONGEST = OVERHEAD + BUDGET


@dataclass(frozen=True)
class Step:
    """One training step of a tenant: a pass over pieces of these sizes, then an optimizer step."""

    arrival: float
    tenant: str
    pieces: tuple[int, ...]
    weight: float = 1.0

    @property
    def own_time(self) -> float:
        """What it would take on an empty device."""
        return sum(OVERHEAD + n for n in self.pieces)


@dataclass
class Simulation:
    done: dict[int, float] = field(default_factory=dict)
    """When each step, by number, had its optimizer step."""
    busy: float = 0.0
    end: float = 0.0
    tokens: dict[str, int] = field(default_factory=dict)
    largest: int = 0
    batches: list[tuple[float, float, set[str]]] = field(default_factory=list)
    """When each micro-batch began and ended, and whose it was."""

    def strange(self, tenant: str, start: float, end: float) -> int:
        """Micro-batches between two times, the one that was running included, that this tenant had no part in."""
        return sum(first < end and last > start and tenant not in whose for first, last, whose in self.batches)


def simulate(steps: Iterable[Step], until: float = float("inf")) -> Simulation:
    arrivals = [(step.arrival, number, step) for number, step in enumerate(steps)]
    heapq.heapify(arrivals)
    scheduler, found, clock = Scheduler(BUDGET), Simulation(), 0.0
    while (arrivals or scheduler) and clock < until:
        while arrivals and arrivals[0][0] <= clock:
            _, number, step = heapq.heappop(arrivals)
            pieces = deque(_piece(step.tenant, n) for n in step.pieces)
            passing = ForwardBackward(step.tenant, (), "cross_entropy", {})
            scheduler.add(Job(number, passing, pieces, "base", Share(step.tenant, step.weight)))
            scheduler.add(Job(number, OptimStep(step.tenant, AdamParams())))
        while (job := scheduler.next_immediate()) is not None:
            assert job.ticket not in found.done
            found.done[job.ticket] = clock
        batch = scheduler.next_micro_batch()
        if not batch:
            assert not scheduler, "something waits, and the device is idle"
            clock = arrivals[0][0] if arrivals else clock
            continue
        tokens = sum(piece.tokens for _, piece in batch)
        for _, piece in batch:
            found.tokens[piece.adapter] = found.tokens.get(piece.adapter, 0) + piece.tokens
        found.largest = max(found.largest, tokens)
        found.batches.append((clock, clock + OVERHEAD + tokens, {piece.adapter for _, piece in batch}))
        clock += OVERHEAD + tokens
        found.busy += OVERHEAD + tokens
    found.end = clock
    return found


def _piece(adapter: str, tokens: int) -> Piece:
    return Piece(adapter, (Datum(np.zeros(tokens, np.int32), {}),), (0,), "cross_entropy", {}, True)


def test_two_thousand_tenants_all_finish_and_the_device_never_idles_beside_work() -> None:
    rng = random.Random(1)
    steps = [
        Step(rng.uniform(0, 200_000), f"t{tenant}", tuple(rng.randint(10, 300) for _ in range(rng.randint(1, 3))))
        for tenant in range(2000)
        for _ in range(rng.randint(1, 2))
    ]
    found = simulate(steps)
    assert found.done.keys() == set(range(len(steps)))
    assert sum(found.tokens.values()) == sum(sum(step.pieces) for step in steps)
    assert found.largest <= BUDGET
    first = min(step.arrival for step in steps)
    assert found.end - first == pytest.approx(found.busy, rel=1e-3)


@pytest.mark.parametrize("small", [1, 3])
@pytest.mark.parametrize("piece", [300, 500, 1000, 1700, BUDGET, 4 * BUDGET])
@pytest.mark.parametrize("large", [1, 10, 200])
def test_a_small_tenant_waits_for_two_micro_batches_beside_its_own(large: int, piece: int, small: int) -> None:
    """However many large ones have a backlog, whatever its pieces, as long as it asks for less than they get."""
    rng, pause = random.Random(large), max(4, large / 4) * LONGEST
    backlog = [Step(0.0, f"large{i}", (piece,) * (3000 // large * max(1, BUDGET // piece))) for i in range(large)]
    watched, at = [], 0.0
    for _ in range(40):
        at += rng.uniform(pause / 2, 2 * pause)
        watched += [Step(at, f"small{i}", (rng.randint(5, 200),)) for i in range(small)]
    found = simulate([*backlog, *watched])
    free: dict[str, float] = {}
    for number, step in enumerate(watched, start=len(backlog)):
        begin, end = max(step.arrival, free.get(step.tenant, 0.0)), found.done[number]
        assert found.strange(step.tenant, begin, end) <= 2
        free[step.tenant] = end


def test_riding_along_is_no_reason_to_wait() -> None:
    """Who is served beside others, and never leads, is as much in turn as if it did."""
    rng, pause = random.Random(0), 50 * LONGEST
    backlog = [Step(0.0, f"large{i}", (BUDGET,) * 15) for i in range(200)]
    crowd, at = [], 0.0
    for _ in range(40):
        at += rng.uniform(pause / 2, 2 * pause)
        crowd += [Step(at, f"small{i}", (rng.randint(5, 200),)) for i in range(20)]
    found = simulate([*backlog, *crowd])
    for number, step in enumerate(crowd, start=len(backlog)):
        # all of them together are at most two micro-batches
        assert found.strange(step.tenant, step.arrival, found.done[number]) <= 4


def test_a_crowd_of_small_tenants_shares_micro_batches() -> None:
    """They wait for each other's computing, and not for the large one's backlog."""
    crowd = [Step(1.0, f"small{i}", (20,)) for i in range(1000)]
    found = simulate([Step(0.0, "large", (BUDGET,) * 100), *crowd])
    last = max(found.done[number] for number in range(1, 1001))
    together = 1000 * 20 / BUDGET * LONGEST
    assert last <= 2 * together + 2 * LONGEST


def test_weights_hold_among_hundreds() -> None:
    """Tokens by weight, to within a piece or two, as long as everybody waits."""
    rng = random.Random(3)
    weights = {f"t{i}": rng.choice([0.5, 1.0, 2.0, 4.0]) for i in range(100)}
    steps = [
        Step(0.0, name, tuple(rng.randint(100, 400) for _ in range(400)), weight) for name, weight in weights.items()
    ]
    found = simulate(steps, until=2_000_000)
    shares = [found.tokens[name] / weight for name, weight in weights.items()]
    spread = 400 / 0.5 + BUDGET
    assert max(shares) - min(shares) <= 2 * spread
    assert min(shares) > 2 * spread
