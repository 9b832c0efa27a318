"""Which models stay in the engine's memory. The others wait in their snapshots, and are loaded when work comes."""

from collections import OrderedDict
from typing import Protocol


class Resident(Protocol):
    """A model that can leave the engine when it has nothing to do."""

    model_id: str

    def leave(self) -> None:
        """Asks it to write what is not written yet, and then to leave unless work comes first; returns at once."""
        ...


class Residency:
    def __init__(self, capacity: int) -> None:
        """`capacity` in bytes of adapters and their moments; one model may always be there."""
        self._capacity = capacity
        self._models: OrderedDict[str, tuple[Resident, int]] = OrderedDict()
        """With their bytes, the least recently used first."""
        self._bytes = 0

    @property
    def bytes(self) -> int:
        return self._bytes

    def used(self, model: Resident, size: int) -> None:
        """A model of about `size` bytes is in the engine and has work; those that are over the capacity leave."""
        self.gone(model)
        self._models[model.model_id] = model, size
        self._bytes += size
        over = self._bytes - self._capacity
        for resident, bytes_ in self._models.values():
            if over <= 0 or resident is model:
                return
            over -= bytes_
            resident.leave()

    def gone(self, model: Resident) -> None:
        """A model is no longer in the engine."""
        _, size = self._models.pop(model.model_id, (model, 0))
        self._bytes -= size
