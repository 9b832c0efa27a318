"""Where adapters in training lie: on the GPU while there is room, else in pinned memory of the host.

A third place is the disk: which adapters the engine has at all, the server says (`server/residency.py`). What gets work
is fetched at once, beside the computing; to make room those leave that were used least recently, and nobody who has
work leaves for somebody who only will be computed later. Clients see none of it. On a CPU there is one memory, and
nothing moves.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import torch

from hone.engine.lora.state import AdapterState

BYTES_PER_NUMBER = 16
"""Of an adapter in training: weights, two moments, and the gradient that is being gathered."""


class Copies(Protocol):
    """Moves adapters between two memories, beside the computing: a call returns before the copy is there."""

    def fetch(self, state: AdapterState) -> None:
        """To the device."""
        ...

    def send(self, state: AdapterState) -> None:
        """To the host, after what was computed with it."""
        ...

    def settle(self, state: AdapterState) -> None:
        """Whatever comes next may use the adapter, wherever it lies."""
        ...


@dataclass(eq=False)
class _Held:
    state: AdapterState
    on_device: bool = False

    @property
    def bytes(self) -> int:
        return BYTES_PER_NUMBER * self.state.layout.size


class Tiers:
    def __init__(self, copies: Copies, capacity: int, has_work: Callable[[str], bool]) -> None:
        """`capacity` of the device in bytes; what computes together is there in any case."""
        self._copies, self.capacity, self._has_work = copies, capacity, has_work
        self._held: OrderedDict[str, _Held] = OrderedDict()
        """The least recently used first."""
        self.bytes = 0
        """On the device."""

    def enter(self, adapter: str, state: AdapterState) -> None:
        """The engine has one more adapter, or another one of this name; it lies on the host."""
        self.leave(adapter)
        self._held[adapter] = _Held(state)
        self.expect(adapter)

    def leave(self, adapter: str) -> None:
        """The engine has it no longer; fine if it never had."""
        held = self._held.pop(adapter, None)
        if held is not None:
            self._copies.settle(held.state)
            self.bytes -= held.bytes if held.on_device else 0

    def expect(self, adapter: str) -> None:
        """It got work: begin to fetch it, if those leave room that have none."""
        held = self._held.get(adapter)
        if held is None:
            return
        self._held.move_to_end(adapter)
        if held.on_device:
            return
        leaving, enough = self._least_recent(held.bytes, lambda other: not self._has_work(other))
        if enough:
            self._send(leaving)
            self._fetch(held)

    def use(self, adapters: Iterable[str]) -> None:
        """These are computed with next: have all of them on the device."""
        wanted = dict.fromkeys(adapters)
        for adapter in wanted:
            self._held.move_to_end(adapter)
        held_now = [self._held[adapter] for adapter in wanted]
        missing = sum(held.bytes for held in held_now if not held.on_device)
        if missing:
            self._send(self._least_recent(missing, lambda other: other not in wanted and not self._has_work(other))[0])
            self._send(self._least_recent(missing, lambda other: other not in wanted)[0])
        for held in held_now:
            if not held.on_device:
                self._fetch(held)
            self._copies.settle(held.state)

    def read(self, adapter: str) -> AdapterState:
        """As it is now, wherever it lies."""
        state = self._held[adapter].state
        self._copies.settle(state)
        return state

    def _least_recent(self, size: int, may_leave: Callable[[str], bool]) -> tuple[list[_Held], bool]:
        """Who leaves for `size` bytes, and whether that is enough; nobody if there is room."""
        leaving, free = [], self.capacity - self.bytes
        for adapter, held in self._held.items():
            if free >= size:
                break
            if held.on_device and may_leave(adapter):
                leaving.append(held)
                free += held.bytes
        return leaving, free >= size

    def _send(self, leaving: Iterable[_Held]) -> None:
        for held in leaving:
            self._copies.send(held.state)
            held.on_device = False
            self.bytes -= held.bytes

    def _fetch(self, held: _Held) -> None:
        self._copies.fetch(held.state)
        held.on_device = True
        self.bytes += held.bytes


class OneMemory:
    """A CPU: nothing moves."""

    def fetch(self, state: AdapterState) -> None: ...

    def send(self, state: AdapterState) -> None: ...

    def settle(self, state: AdapterState) -> None: ...


class CudaCopies:
    """On a stream of their own, from and to pinned memory."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._under_way: dict[AdapterState, torch.cuda.Event] = {}

    def fetch(self, state: AdapterState) -> None:
        self._move(state, self._device)

    def send(self, state: AdapterState) -> None:
        self.settle(state)
        for tensor in state.tensors():
            tensor.record_stream(self._stream)  # it was perhaps made on the other stream, which must not reuse it yet
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        self._move(state, torch.device("cpu"))

    def settle(self, state: AdapterState) -> None:
        event = self._under_way.pop(state, None)
        if event is None:
            return
        if not state.weights.is_cuda:
            event.synchronize()  # the host reads next, and waits for no stream
            return
        current = torch.cuda.current_stream(self._device)
        current.wait_event(event)
        for tensor in state.tensors():
            tensor.record_stream(current)

    def _move(self, state: AdapterState, device: torch.device) -> None:
        with torch.cuda.stream(self._stream):
            state.move(device)
            self._under_way[state] = self._stream.record_event()


def tiers_for(device: torch.device, capacity: int, has_work: Callable[[str], bool]) -> Tiers:
    """Those of this device; `capacity` is of a GPU."""
    if device.type == "cuda":
        return Tiers(CudaCopies(device), capacity, has_work)
    return Tiers(OneMemory(), 1 << 62, has_work)
