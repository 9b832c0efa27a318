"""Which models are in the engine's memory. The others wait in their snapshots, and are loaded when work comes.

A model comes in when there is room for it, in the order of asking; to make room, those leave that were used least
recently, first of all those without work. One whose work is not over goes on with it when it comes in again: so any
number of models can be trained in turn.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Protocol

BYTES_PER_PARAMETER = 16
"""Of an adapter in training: weights, two moments, and the gradient that is being gathered."""


class Resident(Protocol):
    """A model that can leave the engine."""

    model_id: str

    @property
    def is_busy(self) -> bool:
        """Whether it has work."""
        ...

    def leave(self) -> None:
        """Asks it to leave when what the engine has of its work is done, or at once if it has none; it writes first
        what is not written yet. Returns at once."""
        ...


@dataclass(frozen=True)
class _Asking:
    model: Resident
    size: int
    turn: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Residency:
    def __init__(self, capacity: int) -> None:
        """`capacity` in bytes of adapters, their moments and gradients; one model may always be there."""
        self.capacity = capacity
        self._models: OrderedDict[str, tuple[Resident, int]] = OrderedDict()
        """With their bytes, the least recently used first."""
        self._asking: OrderedDict[str, _Asking] = OrderedDict()
        self.bytes = 0

    @property
    def is_wanted(self) -> bool:
        """Whether a model waits for room, so that those that are here should take turns with it."""
        return bool(self._asking)

    async def enter(self, model: Resident, size: int) -> None:
        """Wait until a model of `size` bytes may come into the engine."""
        if model.model_id in self._models:
            return
        asking = self._asking[model.model_id] = _Asking(model, size)
        self._make_room()
        try:
            await asking.turn
        finally:
            self._asking.pop(model.model_id, None)

    def used(self, model: Resident, size: int) -> None:
        """A model of `size` bytes is in the engine and has work."""
        self._forget(model)
        self._models[model.model_id] = model, size
        self.bytes += size
        self._make_room()

    def gone(self, model: Resident) -> None:
        """A model is no longer in the engine."""
        self._forget(model)
        self._make_room()

    def _forget(self, model: Resident) -> None:
        _, size = self._models.pop(model.model_id, (model, 0))
        self.bytes -= size

    def _make_room(self) -> None:
        while self._asking:
            model_id, first = next(iter(self._asking.items()))
            if self._models and self.bytes + first.size > self.capacity:
                break
            del self._asking[model_id]
            if not first.turn.done():
                self._models[model_id] = first.model, first.size
                self.bytes += first.size
                first.turn.set_result(None)
        over = self.bytes + sum(asking.size for asking in self._asking.values()) - self.capacity
        if over <= 0:
            return
        others = list(self._models.values())[: None if self._asking else -1]
        for resident, size in sorted(others, key=lambda one: one[0].is_busy):
            if over > 0:
                over -= size
                resident.leave()
