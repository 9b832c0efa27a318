"""When a model's state is written down: often enough that a crash repeats little, rarely enough that nobody notices."""

import time
from dataclasses import dataclass, field

BYTES_PER_SECOND = 10_000_000
"""What a model may write on average: a few percent of what disks take, so that large adapters wait longer."""


@dataclass(frozen=True)
class SnapshotPolicy:
    operations: int
    bytes: int
    seconds: float

    def due(self, uncovered: "Uncovered", size: int) -> bool:
        """Whether to write again; the last snapshot had `size` bytes."""
        age = time.monotonic() - uncovered.since
        return (
            uncovered.operations > 0
            and age >= size / BYTES_PER_SECOND
            and (uncovered.operations >= self.operations or uncovered.bytes >= self.bytes or age >= self.seconds)
        )


@dataclass
class Uncovered:
    """What a crash would have to repeat for one model."""

    operations: int = 0
    bytes: int = 0
    since: float = field(default_factory=time.monotonic)
    published: bool = False
    """Whether versions were published; a snapshot comes after they are on disk."""

    def add(self, payload_bytes: int) -> None:
        if not self.operations:
            self.since = time.monotonic()
        self.operations += 1
        self.bytes += payload_bytes
