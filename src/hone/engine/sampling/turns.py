"""Who is next at the sampler, and who gives way: all of its policy, and no tensors.

Higher priority comes first, and takes from lower. Among equals tenants share rows and cache by their numbers of
sequences, by weight. The next place goes to the tenant that has the fewest, and in it to the oldest; when rows or
blocks run out, the youngest sequence of the tenant that has the most is preempted. A tenant that waits takes from
another only what leaves that one with no less than it has then itself, so that nothing is taken back and forth; within
a tenant only the older takes from the younger.

The tokens of a step are divided so that no long prompt holds up the short ones behind it: half are for the prompt that
began first, the other half for whoever gets done soonest.
"""

from bisect import insort
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Generic, Protocol, TypeVar

from hone.engine.contract import Share


class Claimant(Protocol):
    """A sequence, or the prompt that the next one comes from."""

    @property
    def age(self) -> tuple[int, int]:
        """By arrival; older is smaller."""
        ...

    @property
    def share(self) -> Share: ...


class Filling(Claimant, Protocol):
    """Tokens on their way into the cache."""

    @property
    def done(self) -> int: ...

    @property
    def left(self) -> int: ...

    @property
    def next_goal(self) -> int: ...


C = TypeVar("C", bound=Claimant)
F = TypeVar("F", bound=Filling)


class Standings:
    """How many sequences each tenant has, of those that hold something."""

    def __init__(self, holders: Iterable[Claimant]) -> None:
        self._held = Counter(one.share.tenant for one in holders)

    def add(self, one: Claimant) -> None:
        self._held[one.share.tenant] += 1

    def remove(self, one: Claimant) -> None:
        self._held[one.share.tenant] -= 1

    def first(self, claimants: Iterable[C]) -> C:
        return min(claimants, key=self._place)

    def last(self, holders: Iterable[C]) -> C:
        return max(holders, key=self._place)

    def gives_way(self, holder: Claimant, to: Claimant) -> bool:
        """Whether `to`, which holds nothing, may have the place of `holder`."""
        mine, theirs = to.share, holder.share
        if mine.priority != theirs.priority:
            return mine.priority > theirs.priority
        if mine.tenant == theirs.tenant:
            return to.age < holder.age
        return (self._held[theirs.tenant] - 1) / theirs.weight >= (self._held[mine.tenant] + 1) / mine.weight

    def _place(self, one: Claimant) -> tuple[int, float, tuple[int, int]]:
        return -one.share.priority, self._held[one.share.tenant] / one.share.weight, one.age


class WaitingLine(Generic[F]):
    """Those that hold nothing yet, or no longer: each tenant's by age."""

    def __init__(self) -> None:
        self._lines: dict[str, list[F]] = {}

    def __bool__(self) -> bool:
        return bool(self._lines)

    def __iter__(self) -> Iterator[F]:
        for line in self._lines.values():
            yield from line

    def add(self, one: F) -> None:
        insort(self._lines.setdefault(one.share.tenant, []), one, key=attrgetter("age"))

    def remove(self, one: F) -> None:
        line = self._lines[one.share.tenant]
        line.remove(one)
        if not line:
            del self._lines[one.share.tenant]

    def heads(self) -> Iterator[F]:
        """The oldest of each tenant."""
        for line in self._lines.values():
            yield line[0]

    def shortest(self) -> F:
        return min(self, key=attrgetter("left"))


def gets_tokens(filling: Sequence[Filling], left: int, tokens: int) -> bool:
    """Whether a prompt with so much `left` would be computed in the next step of `tokens`, if it began now."""
    if not filling:
        return True
    first, *others = filling
    return tokens - min(first.left, tokens // 2) > sum(one.left for one in others if one.left <= left)


def divide(filling: Sequence[F], tokens: int, unit: int) -> dict[F, int]:
    """How many tokens of each are done after a step of `tokens`: a multiple of `unit`, or all. `filling` is ordered by
    when they began; those that get nothing are absent."""
    room = max(tokens, unit)
    done: dict[F, int] = {}
    soonest = sorted(filling[1:], key=attrgetter("next_goal"))
    turns = [(filling[0], max(room // 2, unit)), *((one, one.next_goal) for one in soonest)]
    for one, most in (*turns, *((one, room) for one in filling)):
        start, end = done.get(one, one.done), one.done + one.left
        stop = min(start + min(most, room), end)
        if stop < end:
            stop -= stop % unit
        if stop > start:
            done[one] = stop
            room -= stop - start
    return done
