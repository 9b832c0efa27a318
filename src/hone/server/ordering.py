"""Puts what arrives in any order back into the order of its numbers."""

from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")


class SequenceGate(Generic[T]):
    """Lets items through in the order of their numbers, each number once; holds those that came early."""

    def __init__(self, next_seq: int) -> None:
        self.next_seq = next_seq
        self._early: dict[int, T] = {}

    def __bool__(self) -> bool:
        """Whether something waits for a number that has not come."""
        return bool(self._early)

    def offer(self, seq: int, item: T) -> list[T] | None:
        """What may go now that this item is here. None: its number has passed."""
        if seq < self.next_seq:
            return None
        self._early[seq] = item
        through = []
        while self.next_seq in self._early:
            through.append(self._early.pop(self.next_seq))
            self.next_seq += 1
        return through

    def missing(self, at_most: int) -> list[int]:
        """The first numbers that are being waited for. There may be any number of them: clients choose theirs."""
        wanted = (seq for seq in range(self.next_seq, max(self._early, default=0)) if seq not in self._early)
        return list(islice(wanted, at_most))

    def give_up(self) -> list[T]:
        """Stop waiting: everything that was held, in order. The numbers up to the last of them have passed."""
        held = [self._early[seq] for seq in sorted(self._early)]
        if self._early:
            self.next_seq = max(self._early) + 1
        self._early.clear()
        return held
