"""What a system must offer to be measured."""

from pathlib import Path
from typing import Protocol

from benchmarks.peers.work import Publish, Sample, Setting, Train


class System(Protocol):
    """Made ready for work by its constructor. Each method returns when its work is done, results included. It need not
    have those for work that it cannot do (`lacks`)."""

    pid: int
    """The process whose tree is the system, without its client."""

    def __init__(self, model: Path, setting: Setting) -> None: ...

    def train(self, work: Train) -> float | None:
        """Seconds, if the caller's own clock would count what is no part of a step."""

    def sample(self, work: Sample, seed: int) -> None: ...

    def publish(self, work: Publish) -> float:
        """Seconds, since a training step that does not count comes first."""
        ...

    def close(self) -> None: ...
