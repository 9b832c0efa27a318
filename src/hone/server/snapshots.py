"""When a model's state is written down: often enough that a crash repeats little, rarely enough that nobody notices."""

import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class SnapshotPolicy:
    operations: int
    bytes: int
    seconds: float

    def due(self, uncovered: "Uncovered") -> bool:
        return uncovered.operations > 0 and (
            uncovered.operations >= self.operations
            or uncovered.bytes >= self.bytes
            or time.monotonic() - uncovered.since >= self.seconds
        )


@dataclass
class Uncovered:
    """What a crash would have to repeat for one model."""

    operations: int = 0
    bytes: int = 0
    since: float = field(default_factory=time.monotonic)

    def add(self, payload_bytes: int) -> None:
        if not self.operations:
            self.since = time.monotonic()
        self.operations += 1
        self.bytes += payload_bytes
