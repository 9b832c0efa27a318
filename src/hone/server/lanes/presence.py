"""Which engine process has a model, and how much of its memory the model takes."""

import asyncio

from hone.server.recovery import EngineKeeper

ABSENT = -1
"""The generation of a model that no engine has."""


class Presence:
    def __init__(self, keeper: EngineKeeper, wake: asyncio.Event) -> None:
        """`wake` is set when the model has to be brought into another engine."""
        self._keeper, self._wake = keeper, wake
        self.generation = ABSENT
        self.bytes = 0

    def is_here(self) -> bool:
        """Whether the present engine has this model."""
        return self.generation == self._keeper.generation

    def gone(self) -> None:
        self.generation = ABSENT

    def lost(self, generation: int) -> None:
        """An operation that was submitted in `generation` was lost with its engine."""
        self._keeper.lost(generation)
        self._wake.set()
